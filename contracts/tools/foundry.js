#!/usr/bin/env node
// Runs forge, cast or anvil from the npm package of this platform: `node tools/foundry.js forge test`.
"use strict";
const { spawnSync } = require("node:child_process");
const { existsSync } = require("node:fs");
const { resolve } = require("node:path");

const [tool, ...rest] = process.argv.slice(2);
const cpu = { x64: "amd64", arm64: "arm64" }[process.arch] ?? process.arch;
const root = resolve(__dirname, "..");
const binary = resolve(root, "node_modules/@foundry-rs", `${tool}-${process.platform}-${cpu}`, "bin", tool);
if (!existsSync(binary)) {
  process.stderr.write(`${tool} is not installed for ${process.platform}-${cpu}\nhint: run \`npm ci\` in contracts/\n`);
  process.exit(1);
}
const { status, error } = spawnSync(binary, rest, { cwd: root, stdio: "inherit" });
if (error) throw error;
process.exit(status ?? 1);
