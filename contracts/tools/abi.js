#!/usr/bin/env node
// Writes abi/<Contract>.json (abi, bytecode, deployedBytecode) from a fresh build; with --check compares instead, so
// that continuous integration proves the committed files reproducible.
"use strict";
const { spawnSync } = require("node:child_process");
const { existsSync, mkdirSync, readFileSync, writeFileSync } = require("node:fs");
const { resolve } = require("node:path");

const CONTRACTS = {
  "GatekeeperSet.sol": ["GatekeeperSet"],
  "EcdsaQuorumVerifier.sol": ["EcdsaQuorumVerifier"],
  "PolicyRegistry.sol": ["PolicyRegistry"],
  "WorkerRegistry.sol": ["WorkerRegistry"],
  "FunctionRegistry.sol": ["FunctionRegistry"],
  "ReceiptVerifier.sol": ["ReceiptVerifier"],
  "RequestHub.sol": ["RequestHub"],
  "examples/StoredAnswers.sol": ["StoredAnswers"],
  "../examples/medical-check/MedicalRegistry.sol": ["MedicalRegistry"],
  "../examples/refund-desk/RefundDesk.sol": ["RefundDesk"],
};

const root = resolve(__dirname, "..");
const check = process.argv.includes("--check");
const build = spawnSync(process.execPath, [resolve(__dirname, "foundry.js"), "forge", "build", "src", ...Object.keys(CONTRACTS).filter((source) => source.startsWith("../")), "--force"], {
  cwd: root,
  stdio: ["ignore", "ignore", "inherit"],
});
if (build.status !== 0) process.exit(build.status ?? 1);

mkdirSync(resolve(root, "abi"), { recursive: true });
let stale = 0;
for (const [source, names] of Object.entries(CONTRACTS)) {
  for (const name of names) {
    const file = source.split("/").pop();
    const built = JSON.parse(readFileSync(resolve(root, "out", file, `${name}.json`), "utf8"));
    const artefact = {
      abi: built.abi,
      bytecode: { object: built.bytecode.object },
      deployedBytecode: { object: built.deployedBytecode.object },
    };
    const text = JSON.stringify(artefact, null, 1) + "\n";
    const target = resolve(root, "abi", `${name}.json`);
    if (!check) {
      writeFileSync(target, text);
    } else if (!existsSync(target) || readFileSync(target, "utf8") !== text) {
      process.stderr.write(`abi/${name}.json is not what the sources compile to\n`);
      stale += 1;
    }
  }
}
if (stale > 0) {
  process.stderr.write("hint: run `npm run abi` in contracts/ and commit the result\n");
  process.exit(1);
}
process.stdout.write(check ? "abi/ is what the sources compile to\n" : "abi/ written\n");
