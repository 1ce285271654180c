// Asks the model what the function asks it, by the official Node client, unchanged: OPENAI_BASE_URL and OPENAI_API_KEY say where.
// Usage: classify.mjs < MESSAGE. Prints the label, and the name of the answer.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { label, question } from "./src/question.js";

// The client is installed beside the SDK.
const { default: OpenAI } = await import(createRequire(path.join(process.cwd(), "package.json")).resolve("openai"));
const client = new OpenAI({ maxRetries: 0, timeout: 120_000 });
const answer = await client.chat.completions.create(question(readFileSync(0, "utf8").trim()));
console.log(JSON.stringify({ label: label(answer), id: answer.id }));
