#!/usr/bin/env node
// Checks a receipt bundle with viem and Node's own crypto, and none of Tacit's code.
//
//   node check.mjs BUNDLE DEPLOYMENT        run it in a folder where viem is installed
//
// Checks that DEPLOYMENT is the cluster the bundle names, that at least t gatekeepers signed the worker's certificate, that the
// worker signed the receipt, and that the receipt stands in the log, whose checkpoint the worker's Ed25519 key signed. check.py
// checks the register quorum as well. Neither judges hardware evidence, policies or time: `tacit verify` does.
// Exit status: 0 if everything holds, 3 if not.

import { createHash, createPublicKey, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { hashTypedData, recoverTypedDataAddress } = createRequire(`${process.cwd()}/`)("viem");

const parameters = (text) => text.split(",").map((field) => ({ type: field.split(" ")[0], name: field.split(" ")[1] }));
const types = {
  Receipt: parameters(
    "bytes32 functionId,bytes32 codeHash,bytes32 certificate,bytes32 callId,uint8 kind,uint8 outcome,bytes32 method,bytes32 caller," +
    "bytes32 request,bytes32 response,uint64 sequence,bytes32 headBefore,bytes32 headAfter,uint64 fence,bytes32 effects," +
    "bytes32 usage,uint64 fuel,uint64 time,uint64 epoch"),
  Certificate: parameters(
    "address worker,bytes32 keyset,uint8 platform,bytes32 measurement,bytes32 chip,uint8 confidence,bytes32 root,bytes32 policy," +
    "bool simulated,address operator,uint64 collateralTime,uint64 notBefore,uint64 notAfter,uint64 epoch"),
};
const kinds = ["command", "query", "staleQuery", "trigger", "chainRequest", "publish", "inference", "training"];
const outcomes = ["ok", "thrown", "limit", "denied", "unavailable"];
const platforms = { "sgx": 1, "tdx": 2, "sev-snp": 3, "nitro": 4 };

const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();
const raw = (text) => Buffer.from(text.replace(/^0x/, ""), "hex");
const require = (holds, what) => { if (!holds) throw new Error(what); };

/** RFC 8785 for what these files hold: objects, arrays, texts, whole numbers, true, false, null. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  return `{${Object.keys(value).sort().map((key) => `${JSON.stringify(key)}:${canonical(value[key])}`).join(",")}}`;
}

/** RFC 9162, section 2.1.3.2, over the receipt's digest. */
function logRoot(digest, index, size, path) {
  require(index < size, "log: no such entry");
  let [node, first, last] = [sha256(Buffer.of(0), digest), index, size - 1];
  for (const sibling of path.map(raw)) {
    require(last > 0, "log: the path is too long");
    if (first % 2 === 1 || first === last) {
      node = sha256(Buffer.of(1), sibling, node);
      while (first % 2 === 0 && first !== 0) [first, last] = [Math.floor(first / 2), Math.floor(last / 2)];
    } else {
      node = sha256(Buffer.of(1), node, sibling);
    }
    [first, last] = [Math.floor(first / 2), Math.floor(last / 2)];
  }
  require(last === 0, "log: the path is too short");
  return node;
}

/** A C2SP signed note by one Ed25519 key. */
function checkpointOf(note, origin, key) {
  const [body, lines] = note.split("\n\n");
  const [name, size, root] = body.split("\n");
  require(name === origin, "the checkpoint is of another log");
  const signature = Buffer.from(lines.trim().split(" ")[2], "base64");
  require(signature.subarray(0, 4).equals(sha256(`${origin}\n`, Buffer.of(1), key).subarray(0, 4)), "the checkpoint names another key");
  const prefix = Buffer.from("302a300506032b6570032100", "hex");
  const publicKey = createPublicKey({ key: Buffer.concat([prefix, key]), format: "der", type: "spki" });
  require(verify(null, Buffer.from(`${body}\n`), publicKey, signature.subarray(4)), "the checkpoint's signature does not hold");
  return { size: Number(size), root: Buffer.from(root, "base64") };
}

async function check(bundle, deployment) {
  const { genesis } = deployment;
  const cluster = `0x${sha256(genesis.simulated ? "tacit.genesis.sim\0" : "tacit.genesis\0", canonical(genesis)).toString("hex")}`;
  require(bundle.cluster === cluster, `the bundle is of cluster ${bundle.cluster}, not ${cluster}`);
  const typed = (primaryType, message) => ({ domain: { name: "Tacit", version: "1", salt: cluster }, types, primaryType, message });
  const signer = async (message, signature) => (await recoverTypedDataAddress({ ...message, signature })).toLowerCase();

  const { certificate, keyset, signatures } = bundle.certificate;
  const certified = typed("Certificate", { ...certificate, platform: platforms[certificate.platform] });
  let last = -1;
  for (const { index, signature } of signatures) {
    require(index > last, "certificate: indices do not rise");
    require(await signer(certified, signature) === genesis.gatekeepers[index].address, "certificate: a signature is of somebody else");
    last = index;
  }
  require(signatures.length >= genesis.threshold, `certificate: ${signatures.length} signatures, ${genesis.threshold} needed`);
  require(certificate.keyset === `0x${sha256(canonical(keyset)).toString("hex")}`, "the keyset is not the certificate's");
  console.log(`certificate  ${signatures.length} of ${genesis.gatekeepers.length} gatekeepers, worker ${certificate.worker}`);

  const { receipt } = bundle;
  const message = typed("Receipt", { ...receipt, kind: kinds.indexOf(receipt.kind), outcome: outcomes.indexOf(receipt.outcome) });
  require(receipt.certificate === hashTypedData(certified), "the receipt names another certificate");
  const author = await signer(message, bundle.signature);
  require(author === certificate.worker, `the receipt is signed by ${author}`);
  const digest = hashTypedData(message);
  console.log(`receipt      ${author} signed ${digest}`);

  if (bundle.log !== undefined) {
    const { public_key: key } = keyset.receipt_signing_keys.find(({ algo }) => algo === "ed25519");
    const { size, root } = checkpointOf(bundle.log.checkpoint, `tacit/${cluster}/${certificate.worker}`, raw(key));
    require(logRoot(raw(digest), bundle.log.index, size, bundle.log.path).equals(root), "not in the log");
    console.log(`log          entry ${bundle.log.index} of ${size}, checkpoint signed`);
  }
}

try {
  const [bundle, deployment] = process.argv.slice(2, 4).map((file) => JSON.parse(readFileSync(file, "utf8")));
  await check(bundle, deployment);
} catch (error) {
  console.log(`REFUSED: ${error.message}`);
  process.exitCode = 3;
}
