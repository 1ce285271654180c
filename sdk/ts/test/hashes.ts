/** Hashes and trees as the formats define them, written once more for the tests. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { concat, encodeAbiParameters, keccak256, sha256, type Hex } from "viem";

export function vector(name: string): any {
  return JSON.parse(readFileSync(new URL(`../../../../vectors/${name}`, import.meta.url), "utf8"));
}

/** keccak256 of abi.encode. */
export function kabi(types: string[], values: readonly unknown[]): Hex {
  return keccak256(encodeAbiParameters(types.map((type) => ({ type })), values));
}

export const leaf = (value: Hex): Hex => keccak256(keccak256(value));
export const node = (left: Hex, right: Hex): Hex => keccak256(concat(left < right ? [left, right] : [right, left]));
export const climb = (from: Hex, path: readonly Hex[]): Hex => path.reduce(node, from);
export const zero = `0x${"00".repeat(32)}` as const;

export const logLeaf = (entry: Hex): Hex => sha256(concat(["0x00", entry]));
export const logNode = (left: Hex, right: Hex): Hex => sha256(concat(["0x01", left, right]));

/** Root of the log from a leaf and its path (RFC 9162, section 2.1.3.2). */
export function logRoot(from: Hex, index: number, size: number, path: readonly Hex[]): Hex {
  let [position, last, hash] = [index, size - 1, from];
  for (const sibling of path) {
    assert.notEqual(last, 0, "the path is too long");
    if (position % 2 === 1 || position === last) {
      hash = logNode(sibling, hash);
      while (position % 2 === 0 && position !== 0) [position, last] = [position >> 1, last >> 1];
    } else {
      hash = logNode(hash, sibling);
    }
    [position, last] = [position >> 1, last >> 1];
  }
  assert.equal(last, 0, "the path is too short");
  return hash;
}
