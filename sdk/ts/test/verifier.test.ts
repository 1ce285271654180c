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
const bundle = readFileSync(path("golden.receipt.json"), "utf8");
const deployment = vector("golden.deployment.json");
const now = Math.floor(Date.now() / 1000);
const golden: Question = { bundle, deployment, policy: "dev", now };

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
  assert.equal(verifier.verify({ bundle, deployment, now }).verdict, "simulated");
  const unanchored = verifier.verify({ bundle, policy: "dev", now });
  assert.equal(unanchored.verdict, "refused");
  assert.equal(unanchored.steps.find((step) => !step.ok)?.step, "anchor");
});

test("an altered bundle is refused wherever it is altered", () => {
  for (let at = 0; at < bundle.length; at += 97) {
    const other = bundle[at] === "0" ? "1" : "0";
    const altered = bundle.slice(0, at) + other + bundle.slice(at + 1);
    assert.equal(verifier.verify({ ...golden, bundle: altered }).verdict, "refused", `character ${at}`);
  }
});

test("questions that make no sense are refused, and the module lives on", () => {
  const check = (question: unknown): void =>
    assert.equal(verifier.verify(question as Question).verdict, "refused", JSON.stringify(question).slice(0, 80));
  check({});
  check({ now });
  check({ ...golden, evidence: {} });
  check({ ...golden, policy: "lenient" });
  check({ ...golden, unknown: 1 });
  check({ evidence: { version: 1, kind: "tdx", document: "AAAA" }, collateral: {}, now });
  assert.throws(() => verifier.verify({ ...golden, bundle: " ".repeat(17 << 20) }), RangeError);
  assert.equal(verifier.verify(golden).verdict, "verified");
});

test("the command line prints the same report, byte for byte", () => {
  const trusted = ["--deployment", path("golden.deployment.json")];
  const receipt = path("golden.receipt.json");
  const check = (question: Question, ...args: string[]): void =>
    assert.equal(`${verifier.verifyText(question)}\n`, command(receipt, ...args));
  check(golden, ...trusted, "--policy", "dev");
  check({ bundle, deployment, now }, ...trusted);
  check({ bundle, deployment, policy: "high", now }, ...trusted, "--policy", "high");
});
