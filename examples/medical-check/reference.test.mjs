// node --test examples/medical-check
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { abiOf, answerTo, dataRoot, exponential, heldOut, logitOf, markerOf, readRows, requestOf, fileRequest, split, verdictOn } from "./reference.mjs";

const read = (name) => readFileSync(new URL(name, import.meta.url), "utf8");
const lines = read("./data/breast_cancer.csv").trimEnd().split("\n").slice(1);
const salt = Buffer.alloc(32, 7);

test("the model is right on at least 95 % of the rows it never saw", () => {
  const rows = heldOut();
  const right = rows.filter(({ row, malignant }) => answerTo(row).malignant === malignant).length;
  assert.equal(rows.length, 171);
  assert.ok(right / rows.length >= 0.95, `${right} of ${rows.length}`);
  assert.equal(verdictOn(rows, salt).pass, true);
});

test("the split follows from the data alone and the parts share no row", () => {
  const digest = (line) => createHash("sha256").update(line).digest("hex");
  const order = lines.map((line, index) => [digest(line), index]).sort().map(([, index]) => index);
  const ascending = (indices) => [...indices].sort((a, b) => a - b);
  assert.deepEqual(split(), { train: ascending(order.slice(171)), heldOut: ascending(order.slice(0, 171)) });
  assert.equal(read("./data/held-out.csv"), split().heldOut.map((index) => `${lines[index]}\n`).join(""));
});

test("requests are the numbers of the file, character by character", () => {
  for (const { cells, row } of readRows(lines.join("\n"))) {
    assert.equal(requestOf(cells), JSON.stringify({ row }));
  }
  const rows = heldOut();
  const expected = { rows: rows.map(({ row }) => row), malignant: rows.map(({ malignant }) => malignant), salt: salt.toString("hex") };
  assert.equal(fileRequest(rows, salt), JSON.stringify(expected));
});

test("a marker stands in one row of the whole file, and in no other file here", () => {
  const others = read("./src/index.ts") + read("./model.json") + read("./data/split.json") + read("./tacit.toml");
  for (const { cells } of heldOut()) {
    assert.deepEqual(lines.filter((line) => line.includes(markerOf(cells))).map((line) => line.slice(0, -2)), [cells]);
    assert.ok(!others.includes(markerOf(cells)));
  }
});

test("the function carries the weights of model.json", () => {
  const block = read("./src/index.ts").split("// <model> written by train.py\n")[1].split("// </model>")[0];
  const numbers = [...block.matchAll(/-?\d+(\.\d+)?(e-?\d+)?/g)].map(([text]) => Number(text));
  const { bias, weights } = JSON.parse(read("./model.json"));
  assert.deepEqual(numbers, [bias, ...weights]);
});

test("the exponential made of + * / is one", () => {
  for (let x = 0; x < 690; x += 0.37) {
    const bound = x < 50 ? 1e-12 : 1e-8;
    assert.ok(Math.abs(exponential(-x) / Math.exp(-x) - 1) < bound, `x = ${-x}`);
  }
  assert.equal(exponential(-1000), 0);
});

test("a wrong label, number, order or salt changes the data root; too many wrong labels fail the file", () => {
  const rows = heldOut();
  const root = dataRoot(rows, salt).toString("hex");
  const altered = (index, change) => rows.map((row, place) => (place === index ? { ...row, ...change } : row));
  for (const index of [0, 85, 170]) {
    const row = rows[index].row.with?.(3, 1e-9) ?? rows[index].row.map((value, column) => (column === 3 ? 1e-9 : value));
    assert.notEqual(dataRoot(altered(index, { row }), salt).toString("hex"), root);
    assert.notEqual(dataRoot(altered(index, { malignant: !rows[index].malignant }), salt).toString("hex"), root);
  }
  assert.notEqual(dataRoot([...rows].reverse(), salt).toString("hex"), root);
  assert.notEqual(dataRoot(rows, Buffer.alloc(32, 8)).toString("hex"), root);
  const wrong = rows.map((row, place) => (place % 10 === 0 ? { ...row, malignant: !row.malignant } : row));
  assert.equal(verdictOn(wrong, salt).pass, false);
});

test("the answer to a contract is four words", () => {
  const verdict = verdictOn(heldOut(), salt);
  const words = abiOf(verdict).slice(2).match(/.{64}/g).map((word) => BigInt(`0x${word}`));
  assert.deepEqual(words, [1n, 9500n, 171n, BigInt(`0x${verdict.dataRoot}`)]);
  assert.ok(Number.isFinite(logitOf(heldOut()[0].row)));
});
