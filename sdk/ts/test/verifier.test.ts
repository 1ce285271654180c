/** The WebAssembly verifier in Node: the same verdicts as the command line, byte for byte. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { loadVerifier, type Question } from "../src/index.js";
import { vector } from "./hashes.js";

const module = readFileSync(new URL("../tacit-verifier.wasm", import.meta.url));
const verifier = await loadVerifier(module);
const path = (name: string): string => fileURLToPath(new URL(`../../../../vectors/${name}`, import.meta.url));
const read = (file: string): Uint8Array => new Uint8Array(readFileSync(file));
const file = read(path("golden.receipt.json"));
const deployment = vector("golden.deployment.json");
const now = Math.floor(Date.now() / 1000);
const golden: Question = { file, deployment, policy: "dev", now };

/** What the command prints, whatever its exit status. */
function command(...args: string[]): string {
  const target = process.env["CARGO_TARGET_DIR"] ?? join(homedir(), ".cache/tacit/target");
  try {
    return execFileSync(join(target, "release/tacit"), ["verify", ...args, "--json"], { encoding: "utf8" });
  } catch (error) {
    const { stdout } = error as { stdout?: string };
    if (!stdout) throw error;
    return stdout;
  }
}

test("the module imports nothing", async () => {
  assert.deepEqual(WebAssembly.Module.imports(await WebAssembly.compile(module)), []);
});

test("the golden receipt is verified, simulated or refused, as the policy says", () => {
  assert.equal(verifier.verify(golden).verdict, "verified");
  assert.equal(verifier.verify({ file, deployment, now }).verdict, "simulated");
  const unanchored = verifier.verify({ file, policy: "dev", now });
  assert.equal(unanchored.verdict, "refused");
  assert.equal(unanchored.steps.find((step) => !step.ok)?.step, "anchor");
});

test("an altered bundle is refused wherever it is altered", () => {
  for (let at = 0; at < file.length; at += 397) {
    const altered = file.slice();
    altered[at] = altered[at]! ^ 1;
    assert.equal(verifier.verify({ ...golden, file: altered }).verdict, "refused", `byte ${at}`);
  }
});

test("an AI transcript is judged offline, and refused wherever it is altered", () => {
  const transcript = read(path("golden.transcript.json"));
  const policyFile = path("golden.transcript.policy.json");
  const policy = vector("golden.transcript.policy.json");
  const at = vector("golden.transcript.json").receipt.served_at as number;
  const question: Question = { file: transcript, policy, at, now };
  const report = verifier.verify(question);
  assert.equal(report.verdict, "verified");
  assert.ok(["id-1", "id-4", "receipt-1", "receipt-4", "upstream-1", "inference", "log"].every((name) =>
    report.steps.some(({ step, ok }) => step === name && ok)));
  assert.equal(report.subject?.["completionTokens"], 3);
  for (let position = 0; position < transcript.length; position += 997) {
    const altered = transcript.slice();
    altered[position] = altered[position]! ^ 1;
    assert.equal(verifier.verify({ ...question, file: altered }).verdict, "refused", `byte ${position}`);
  }
  const printed = command(path("golden.transcript.json"), "--policy", policyFile, "--at", String(at));
  assert.equal(`${verifier.verifyText(question)}\n`, printed);
});

test("questions that make no sense are refused, and the module lives on", () => {
  const check = (question: unknown): void =>
    assert.equal(verifier.verify(question as Question).verdict, "refused", JSON.stringify(question).slice(0, 80));
  check({});
  check({ now });
  check({ ...golden, file: new Uint8Array() });
  check({ ...golden, file: "e30" });
  check({ ...golden, policy: "lenient" });
  check({ ...golden, unknown: 1 });
  check({ ...golden, collateral: ["?"] });
  assert.throws(() => verifier.verify({ ...golden, file: new Uint8Array(17 << 20) }), RangeError);
  assert.equal(verifier.verify(golden).verdict, "verified");
});

interface Sample {
  readonly name: string;
  readonly file: string;
  readonly at: string;
  readonly collateral?: Readonly<Record<string, string>>;
}

test("every real sample is judged alike by the command line, byte for byte", () => {
  const folder = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "tacit/evidence");
  const index = readFileSync(join(folder, "index.json"), "utf8");
  const { samples, gpus } = JSON.parse(index) as { samples: readonly Sample[]; gpus: readonly Sample[] };
  assert.ok(samples.length > 0 && gpus.length > 0);
  for (const sample of [...samples, ...gpus]) {
    const beside = Object.entries(sample.collateral ?? {}).filter(([member]) => member !== "kind");
    const files = beside.map(([, name]) => join(folder, name));
    const question: Question = {
      file: read(join(folder, sample.file)),
      collateral: files.map(read),
      policy: "dev",
      at: Date.parse(sample.at) / 1000,
      now,
    };
    const text = verifier.verifyText(question);
    const given = files.flatMap((name) => ["--collateral", name]);
    assert.equal(`${text}\n`, command(join(folder, sample.file), ...given, "--policy", "dev", "--at", sample.at), sample.name);
    assert.match(text, /"subject":\{"kind":"[^"]+"/, sample.name);
  }
});

test("the command line prints the same report, byte for byte", () => {
  const trusted = ["--deployment", path("golden.deployment.json")];
  const receipt = path("golden.receipt.json");
  const check = (question: Question, ...args: string[]): void =>
    assert.equal(`${verifier.verifyText(question)}\n`, command(receipt, ...args));
  check(golden, ...trusted, "--policy", "dev");
  check({ file, deployment, now }, ...trusted);
  check({ file, deployment, policy: "high", now }, ...trusted, "--policy", "high");
});
