// Private data validation: scores measurements of cell nuclei, and validates a whole labelled file without showing it.
//
// Every number is made with + - * / alone. IEEE 754 rounds those in one way only, so any engine on any machine gives the same
// bits; `Math.exp` may differ in the last place between engines and is not used. reference.mjs computes the same outside.

import { state } from "tacit";

// <model> written by train.py
const bias = -28.64153227;
const weights = [
  0.1219010667, 0.1393911119, 0.01653513441, 0.001384059749, 2.756414069,
  -9.98298401, 8.862929962, 21.19608459, -11.04470093, -25.31746403,
  4.806045739, -0.170751222, 0.2804571485, 0.02173677121, 94.46695955,
  -56.92471688, 1.263751646, 62.00584487, -45.26133289, -205.4215557,
  0.21368376, 0.09201504891, 0.02402397643, 0.001699072953, 37.65556961,
  -0.8165467835, 3.408083257, 11.22956147, 10.11276179, 29.21593817,
];
// </model>

const features = 30;
const leastPercent = 95;
const mostRows = 10_000;

type Row = number[];
type Score = { malignant: boolean; probability: number };
type Reading = Score & { row: Row };
type Verdict = { pass: boolean; accuracyAtLeast: number; n: number; dataRoot: string };

/** One row of 30 measurements: malignant or not, and how likely, to six places. A query; nothing is kept. */
export async function score(input: { row: Row }): Promise<Score> {
  return scoreOf(rowOf(input?.row));
}

/** Scores a row and keeps it, sealed, under a sample's name. Answers how many readings the sample has now. */
export async function record(input: { sample: string; row: Row }): Promise<Score & { sample: string; readings: number }> {
  const sample = sampleOf(input?.sample);
  const row = rowOf(input.row);
  const scored = scoreOf(row);
  const readings = ((await state.get(`samples/${sample}`)) as Reading[] | undefined) ?? [];
  if (readings.length >= 100) throw new RangeError("a sample has at most 100 readings");
  readings.push({ ...scored, row });
  await state.set(`samples/${sample}`, readings);
  return { sample, readings: readings.length, ...scored };
}

/** The readings kept of a sample, oldest first. A query. */
export async function history(input: { sample: string }): Promise<Reading[]> {
  return ((await state.get(`samples/${sampleOf(input?.sample)}`)) as Reading[] | undefined) ?? [];
}

/**
 * Validates a whole labelled file in one call. Only the verdict is kept and only the verdict leaves: whether the model is right
 * on at least 95 % of the rows, how many rows there are, and a root that binds the rows without telling anything about them.
 */
export async function validate(input: { rows: Row[]; malignant: boolean[]; salt: string }): Promise<Verdict> {
  if (!Array.isArray(input?.rows) || input.rows.length < 1 || input.rows.length > mostRows) {
    throw new RangeError(`rows: 1 to ${mostRows} rows`);
  }
  const rows = input.rows.map(rowOf);
  const labels = input.malignant;
  if (!Array.isArray(labels) || labels.length !== rows.length || !labels.every((label) => typeof label === "boolean")) {
    throw new TypeError("malignant: one true or false for each row");
  }
  const right = rows.filter((row, index) => scoreOf(row).malignant === labels[index]).length;
  const verdict = {
    pass: right * 100 >= rows.length * leastPercent,
    accuracyAtLeast: leastPercent / 100,
    n: rows.length,
    dataRoot: toHex(await rootOf(rows, labels, fromHex("salt", input.salt))),
  };
  await state.set(`verdicts/${verdict.dataRoot}`, verdict);
  return verdict;
}

/**
 * What a contract may ask: the verdict on a data root (32 bytes), as
 * `abi.encode(bool pass, uint256 accuracyAtLeast in basis points, uint256 n, bytes32 dataRoot)`.
 */
export async function verdict(input: Uint8Array): Promise<Uint8Array> {
  if (!(input instanceof Uint8Array) || input.length !== 32) throw new TypeError("the input is a data root of 32 bytes");
  const found = (await state.get(`verdicts/${toHex(input)}`)) as Verdict | undefined;
  if (found === undefined) throw new RangeError("no file with this data root was validated");
  const out = new Uint8Array(128);
  const view = new DataView(out.buffer);
  view.setUint8(31, found.pass ? 1 : 0);
  view.setUint32(60, Math.round(found.accuracyAtLeast * 10_000));
  view.setUint32(92, found.n);
  out.set(input, 96);
  return out;
}

function scoreOf(row: Row): Score {
  let logit = bias;
  for (let i = 0; i < features; i++) logit += weights[i]! * row[i]!;
  return { malignant: logit > 0, probability: Math.round(sigmoid(logit) * 1e6) / 1e6 };
}

function sigmoid(z: number): number {
  if (z >= 0) return 1 / (1 + expNegative(z));
  const small = expNegative(-z);
  return small / (1 + small);
}

// e^-x for x >= 0: a Taylor series at x/1024, then ten squarings.
function expNegative(x: number): number {
  if (x > 700) return 0;
  const y = -x / 1024;
  let term = 1;
  let total = 1;
  for (let k = 1; k <= 12; k++) {
    term = (term * y) / k;
    total += term;
  }
  for (let i = 0; i < 10; i++) total *= total;
  return total;
}

// The Merkle tree of RFC 6962 with SHA-256. A leaf is 0x00, its own salt, 30 numbers as big-endian binary64, and the label as
// one byte; its salt is SHA-256 of 0x02, the file's salt and the index (u32, big-endian), so that showing one row shows no other.
async function rootOf(rows: Row[], labels: boolean[], salt: Uint8Array): Promise<Uint8Array> {
  let level: Uint8Array[] = [];
  for (const [index, row] of rows.entries()) {
    const indexed = new Uint8Array(37);
    indexed[0] = 2;
    indexed.set(salt, 1);
    new DataView(indexed.buffer).setUint32(33, index);
    const leaf = new Uint8Array(33 + 8 * features + 1);
    leaf.set(await sha256(indexed), 1);
    const view = new DataView(leaf.buffer);
    row.forEach((value, column) => view.setFloat64(33 + 8 * column, value));
    leaf[leaf.length - 1] = labels[index] ? 1 : 0;
    level.push(await sha256(leaf));
  }
  while (level.length > 1) {
    const above: Uint8Array[] = [];
    for (let i = 0; i + 1 < level.length; i += 2) {
      const node = new Uint8Array(65);
      node[0] = 1;
      node.set(level[i]!, 1);
      node.set(level[i + 1]!, 33);
      above.push(await sha256(node));
    }
    // An odd last node moves up unchanged: the same tree as that of RFC 6962.
    if (level.length % 2 === 1) above.push(level[level.length - 1]!);
    level = above;
  }
  return level[0]!;
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

function rowOf(row: unknown): Row {
  if (!Array.isArray(row) || row.length !== features || !row.every((value) => typeof value === "number" && Number.isFinite(value))) {
    throw new TypeError(`row: ${features} numbers`);
  }
  return row;
}

function sampleOf(sample: unknown): string {
  if (typeof sample !== "string" || !/^[a-z0-9-]{1,64}$/.test(sample)) throw new TypeError("sample: 1 to 64 of the characters a-z, 0-9 and -");
  return sample;
}

function fromHex(name: string, text: unknown): Uint8Array {
  if (typeof text !== "string" || !/^[0-9a-f]{64}$/.test(text)) throw new TypeError(`${name}: 64 lower-case hex digits`);
  return Uint8Array.from({ length: 32 }, (_, i) => parseInt(text.slice(2 * i, 2 * i + 2), 16));
}

function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
