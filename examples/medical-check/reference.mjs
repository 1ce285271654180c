#!/usr/bin/env node
// The same check in plain Node, outside of any network: what the function must answer, byte for byte.
//
//   node reference.mjs rows               one JSON line per held-out row: {index, malignant, request, answer, marker}
//   node reference.mjs file --salt HEX    the whole held-out file: {request, answer, question, abi}
//   node reference.mjs summary            {n, right, accuracy}
//
// `request` is the exact body to send, `answer` the exact body to expect. `marker` is a text that stands in the row's request
// and in data/held-out.csv and nowhere else: whoever can find it has seen the row.
// Written apart from src/index.ts, on purpose; the two agree because both use only + - * /, which IEEE 754 rounds in one way.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const read = (name) => readFileSync(new URL(name, import.meta.url), "utf8");
const model = JSON.parse(read("./model.json"));

/** Rows of a csv file: the text of the 30 cells, their numbers, and whether the sample is malignant (0 in the last cell). */
export function readRows(text) {
  return text.split("\n").filter((line) => line !== "").map((line) => {
    const end = line.lastIndexOf(",");
    const cells = line.slice(0, end);
    return { cells, row: cells.split(",").map(Number), malignant: line.slice(end + 1) === "0" };
  });
}

export const heldOut = () => readRows(read("./data/held-out.csv"));
export const split = () => JSON.parse(read("./data/split.json"));

export function logitOf(row) {
  return row.reduce((sum, value, column) => sum + model.weights[column] * value, model.bias);
}

export function answerTo(row) {
  const logit = logitOf(row);
  return { malignant: logit > 0, probability: Math.round(sigmoid(logit) * 1e6) / 1e6 };
}

/** e^x for x <= 0. */
export function exponential(x) {
  if (x < -700) return 0;
  const y = x / 1024;
  let [term, total] = [1, 1];
  for (let k = 1; k <= 12; k += 1) {
    term = term * y / k;
    total = total + term;
  }
  for (let squaring = 0; squaring < 10; squaring += 1) total = total * total;
  return total;
}

function sigmoid(z) {
  return z >= 0 ? 1 / (1 + exponential(-z)) : exponential(z) / (1 + exponential(z));
}

const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("sha256")).digest();

/** The data root of README.md, by the recursive definition of RFC 6962 (the function builds it level by level). */
export function dataRoot(rows, salt) {
  const leaves = rows.map(({ row, malignant }, index) => {
    const place = Buffer.alloc(4);
    place.writeUInt32BE(index);
    const numbers = Buffer.alloc(240);
    row.forEach((value, column) => numbers.writeDoubleBE(value, 8 * column));
    return sha256(Buffer.of(0), sha256(Buffer.of(2), salt, place), numbers, Buffer.of(malignant ? 1 : 0));
  });
  const root = (from, to) => {
    if (to - from === 1) return leaves[from];
    let half = 1;
    while (2 * half < to - from) half *= 2;
    return sha256(Buffer.of(1), root(from, from + half), root(from + half, to));
  };
  return root(0, leaves.length);
}

export function verdictOn(rows, salt) {
  const right = rows.filter(({ row, malignant }) => answerTo(row).malignant === malignant).length;
  return { pass: right * 100 >= rows.length * 95, accuracyAtLeast: 0.95, n: rows.length, dataRoot: dataRoot(rows, salt).toString("hex") };
}

/** What a contract receives: abi.encode(bool pass, uint256 basis points, uint256 n, bytes32 dataRoot). */
export function abiOf(verdict) {
  const word = (value) => BigInt(value).toString(16).padStart(64, "0");
  return "0x" + word(verdict.pass ? 1 : 0) + word(Math.round(verdict.accuracyAtLeast * 10000)) + word(verdict.n) + verdict.dataRoot;
}

/** A fragment of the row's text: its first five measurements. */
export const markerOf = (cells) => cells.split(",").slice(0, 5).join(",");

export function requestOf(cells) {
  return `{"row":[${cells}]}`;
}

export function fileRequest(rows, salt) {
  const labels = rows.map(({ malignant }) => malignant).join(",");
  return `{"rows":[${rows.map(({ cells }) => `[${cells}]`).join(",")}],"malignant":[${labels}],"salt":"${salt.toString("hex")}"}`;
}

function main(command, ...rest) {
  const rows = heldOut();
  if (command === "rows" && rest.length === 0) {
    const indices = split().heldOut;
    return rows.map(({ cells, row, malignant }, place) => JSON.stringify({
      index: indices[place], malignant, request: requestOf(cells), answer: JSON.stringify(answerTo(row)), marker: markerOf(cells),
    }));
  }
  if (command === "file" && rest.length === 2 && rest[0] === "--salt" && /^[0-9a-f]{64}$/.test(rest[1])) {
    const salt = Buffer.from(rest[1], "hex");
    const verdict = verdictOn(rows, salt);
    return [JSON.stringify({ request: fileRequest(rows, salt), answer: JSON.stringify(verdict), question: `0x${verdict.dataRoot}`, abi: abiOf(verdict) })];
  }
  if (command === "summary" && rest.length === 0) {
    const right = rows.filter(({ row, malignant }) => answerTo(row).malignant === malignant).length;
    return [JSON.stringify({ n: rows.length, right, accuracy: right / rows.length })];
  }
  throw new Error("usage: node reference.mjs rows | file --salt <64 lower-case hex digits> | summary");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    process.stdout.write(main(...process.argv.slice(2)).join("\n") + "\n");
  } catch (error) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 2;
  }
}
