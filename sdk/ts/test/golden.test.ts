/** Checks the golden receipt without any of our code: what viem and node's crypto say about it. */

import assert from "node:assert/strict";
import { createHash, createPublicKey, verify } from "node:crypto";
import { test } from "node:test";
import { concat, encodeAbiParameters, hashTypedData, keccak256, recoverAddress, type Hex } from "viem";
import { domain, kinds, outcomes, platforms, statements, type StatementName } from "../src/index.js";
import { climb, leaf, logLeaf, logRoot, vector } from "./hashes.js";

const bundle = vector("golden.receipt.json");
const deployment = vector("golden.deployment.json");
const { genesis } = deployment;

function digest(primaryType: StatementName, message: any): Hex {
  const types = { [primaryType]: statements[primaryType] };
  return hashTypedData({ domain: domain(bundle.cluster), types, primaryType, message });
}

const receipt = {
  ...bundle.receipt,
  kind: kinds.indexOf(bundle.receipt.kind),
  outcome: outcomes.indexOf(bundle.receipt.outcome),
};
const certificate = {
  ...bundle.certificate.certificate,
  platform: platforms.indexOf(bundle.certificate.certificate.platform),
};
const receiptDigest = digest("Receipt", receipt);

/** RFC 8785 for documents of objects, arrays, strings, flags and integers. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.entries(value).toSorted(([left], [right]) => (left < right ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${canonical(member)}`).join(",")}}`;
}

const sha256 = (text: string): Hex => `0x${createHash("sha256").update(text).digest("hex")}`;

async function quorum(of: Hex, signatures: any[], needed: number): Promise<void> {
  assert.ok(signatures.length >= needed, `${signatures.length} of ${needed}`);
  assert.equal(new Set(signatures.map(({ index }) => index)).size, signatures.length);
  for (const { index, signature } of signatures) {
    const signer = await recoverAddress({ hash: of, signature });
    assert.equal(signer.toLowerCase(), genesis.gatekeepers[index].address);
  }
}

test("the cluster is the digest of its genesis document", () => {
  assert.equal(sha256(`tacit.genesis.sim\0${canonical(genesis)}`), deployment.clusterId);
  assert.equal(bundle.cluster, deployment.clusterId);
  assert.equal(sha256(canonical(deployment.policy)), genesis.policy);
});

test("the certified worker signed the receipt", async () => {
  assert.equal(receipt.certificate, digest("Certificate", certificate));
  const signer = await recoverAddress({ hash: receiptDigest, signature: bundle.signature });
  assert.equal(signer.toLowerCase(), certificate.worker);
});

test("an altered receipt has another signer", async () => {
  for (const { name, type } of statements.Receipt) {
    const value = receipt[name];
    const other = type === "bytes32" ? keccak256(value) : value + 1;
    const hash = digest("Receipt", { ...receipt, [name]: other });
    const signer = await recoverAddress({ hash, signature: bundle.signature });
    assert.notEqual(signer.toLowerCase(), certificate.worker, name);
  }
});

test("t gatekeepers signed the certificate", async () => {
  await quorum(digest("Certificate", certificate), bundle.certificate.signatures, genesis.threshold);
  assert.equal(sha256(canonical(bundle.certificate.keyset)), certificate.keyset);
  assert.ok(genesis.roots.includes(certificate.root));
});

test("q gatekeepers acknowledged the commit", async () => {
  const { ack, batch, batchPath, receiptPath, signatures } = bundle.acknowledgement;
  await quorum(digest("AckBatch", batch), signatures, Math.ceil((genesis.gatekeepers.length + genesis.threshold) / 2));
  assert.equal(climb(leaf(receiptDigest), receiptPath), ack.receiptsRoot);
  assert.equal(climb(leaf(digest("Ack", ack)), batchPath), batch.root);
  assert.deepEqual([ack.functionId, ack.fence, ack.sequence, ack.head], [
    receipt.functionId, receipt.fence, receipt.sequence, receipt.headAfter,
  ]);
});

test("the receipt stands in the worker's log", () => {
  const { index, path, checkpoint } = bundle.log;
  const [body, signatureLine] = checkpoint.split("\n\n");
  const [origin, size, root] = body.split("\n");
  assert.equal(origin, `tacit/${bundle.cluster}/${certificate.worker}`);
  const expected = Buffer.from(root, "base64").toString("hex");
  assert.equal(logRoot(logLeaf(receiptDigest), index, Number(size), path), `0x${expected}`);
  const key = bundle.certificate.keyset.receipt_signing_keys.find(({ algo }: any) => algo === "ed25519").public_key;
  const signature = Buffer.from(signatureLine.trim().split(" ")[2], "base64").subarray(4);
  const der = Buffer.from(`302a300506032b6570032100${key}`, "hex");
  const publicKey = createPublicKey({ key: der, format: "der", type: "spki" });
  assert.ok(verify(null, Buffer.from(`${body}\n`), publicKey, signature));
  assert.ok(!verify(null, Buffer.from(`${body} \n`), publicKey, signature));
});

test("the opened commitments are the receipt's", () => {
  for (const tag of ["method", "caller", "request", "response"] as const) {
    const { salt, bytes } = bundle.openings[tag];
    const encoded = encodeAbiParameters(
      [{ type: "string" }, { type: "bytes32" }, { type: "bytes32" }],
      [tag, salt, keccak256(bytes)],
    );
    assert.equal(keccak256(encoded), receipt[tag], tag);
  }
  const manifest = keccak256(Buffer.from(canonical(bundle.code.manifest)));
  assert.equal(keccak256(concat([bundle.code.module, manifest])), receipt.codeHash);
});
