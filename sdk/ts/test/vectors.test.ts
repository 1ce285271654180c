/** Recomputes the golden vectors with viem and node's own SHA-256. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { concat, encodeAbiParameters, hashTypedData, keccak256, sha256, stringToHex, toHex, type Hex } from "viem";
import { domain, statements, type StatementName } from "../src/index.js";
import { climb, kabi, leaf, logLeaf, logRoot, node, vector, zero } from "./hashes.js";

const u64 = (value: number): Hex => toHex(value, { size: 8 });

function merkleRoot(leaves: Hex[]): Hex {
  if (leaves.length < 2) return leaves[0] ?? zero;
  const next: Hex[] = [];
  for (let index = 0; index < leaves.length; index += 2) {
    const [left, right] = [leaves[index], leaves[index + 1]];
    if (left !== undefined) next.push(right === undefined ? left : node(left, right));
  }
  return merkleRoot(next);
}

test("EIP-712 digests", () => {
  const document = vector("eip712.json");
  const names = document.structs.map((struct: any) => struct.primaryType);
  assert.deepEqual(names.toSorted(), Object.keys(statements).toSorted());
  for (const { primaryType, members, message, digest } of document.structs) {
    const name: StatementName = primaryType;
    assert.deepEqual(members, statements[name]);
    const types = { [name]: statements[name] };
    assert.equal(hashTypedData({ domain: domain(document.domain.salt), types, primaryType: name, message }), digest, name);
  }
});

test("identifiers and commitments", () => {
  const f = vector("formats.json");
  const commit = (tag: string, salt: Hex, bytes: Hex): Hex =>
    kabi(["string", "bytes32", "bytes32"], [tag, salt, keccak256(bytes)]);
  const { functionId, codeHash, triggerId, publishId, head, request, publication, confirmationLeaf } = f;
  assert.equal(
    kabi(
      ["uint256", "address", "address", "string"],
      [functionId.chainId, functionId.registry, functionId.owner, functionId.name],
    ),
    functionId.digest,
  );
  const hashes = [keccak256(stringToHex(codeHash.module)), keccak256(stringToHex(codeHash.manifest))];
  assert.equal(kabi(["bytes32", "bytes32"], hashes), codeHash.digest);
  for (const { tag, salt, text, digest } of f.commitments) assert.equal(commit(tag, salt, stringToHex(text)), digest);
  for (const call of f.callId) {
    const values = ["call", call.function, call.caller, call.idempotencyKey];
    assert.equal(kabi(["string", "bytes32", "address", "string"], values), call.digest);
  }
  assert.equal(
    kabi(["string", "bytes32", "uint256", "bytes32"], ["trigger", triggerId.function, triggerId.index, triggerId.event]),
    triggerId.digest,
  );
  assert.equal(
    kabi(["string", "bytes32", "bytes32", "uint256"], ["publish", publishId.function, publishId.callId, publishId.index]),
    publishId.digest,
  );
  assert.equal(
    encodeAbiParameters([{ type: "bytes32" }, { type: "uint256" }], [publishId.callId, publishId.index]),
    publishId.request,
  );
  const parts = [u64(head.keyEpoch), u64(head.fence), u64(head.sequence), head.head, sha256(stringToHex(head.ciphertext))];
  assert.equal(sha256(concat([stringToHex("tacit/head/1"), head.function, ...parts])), head.digest);
  const of = [request.chainId, request.hub, request.consumer, request.nonce, request.functionId, request.codeHash];
  const values = [...of, request.method, stringToHex(request.input), request.callbackGas, request.fee, request.deadline];
  const types = "uint256 address address uint256 bytes32 bytes32 string bytes uint64 uint256 uint64".split(" ");
  assert.equal(kabi(types, values), request.digest);
  const encoded = encodeAbiParameters(
    ["uint256", "address", "string", "uint64", "bytes"].map((type) => ({ type })),
    [publication.chainId, publication.consumer, publication.topic, publication.sequence, stringToHex(publication.data)],
  );
  assert.equal(encoded, publication.encoded);
  assert.equal(commit("response", zero, encoded), publication.response);
  const { function: of_, fence, sequence, head: at, digest } = confirmationLeaf;
  const position = ["bytes32", "uint64", "uint64", "bytes32"].map((type) => ({ type }));
  assert.equal(leaf(encodeAbiParameters(position, [of_, fence, sequence, at])), digest);
});

test("Merkle trees in OpenZeppelin's shape", () => {
  const document = vector("merkle.json");
  assert.deepEqual(document.values.map(leaf), document.leaves);
  for (const { size, root, proofs } of document.trees) {
    assert.equal(merkleRoot(document.leaves.slice(0, size)), root);
    for (const [index, path] of proofs.entries()) assert.equal(climb(document.leaves[index], path), root);
  }
  const shapes: Record<string, [string, string[]]> = {
    fetch: ["string string bytes32 uint16 bytes32 bytes32", ["method", "url", "status", "response", "serverKey"]],
    call: ["string bytes32", ["receipt"]],
    inference: ["string bytes32 bytes32", ["receipt", "model"]],
    publish: ["string uint256 address string uint64 bytes32", ["chainId", "consumer", "topic", "sequence", "data"]],
  };
  const effects = document.effects.map(({ effect, leaf: expected }: any) => {
    const [types, members] = shapes[effect.type] ?? assert.fail(effect.type);
    const found = keccak256(kabi(types.split(" "), [effect.type, ...members.map((member) => effect[member])]));
    assert.equal(found, expected);
    return found;
  });
  assert.equal(merkleRoot(effects), document.effectsRoot);
});

test("log proofs of RFC 6962", () => {
  const document = vector("log.json");
  assert.deepEqual(document.entries.map(logLeaf), document.leaves);
  for (const [at, root] of document.roots.entries()) {
    for (const [index, path] of document.inclusion[at].entries()) {
      assert.equal(logRoot(document.leaves[index], index, at + 1, path), root);
    }
  }
});
