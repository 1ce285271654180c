// The official Node client, unchanged, against a Tacit endpoint: OPENAI_BASE_URL and OPENAI_API_KEY say where.
// Usage: check.mjs CHAT_MODEL [EMBEDDING_MODEL]. Prints one line for each check that holds; any other answer ends it with an error.
import { createRequire } from "node:module";
import path from "node:path";

// The client is installed beside the SDK.
const { default: OpenAI } = await import(createRequire(path.join(process.cwd(), "package.json")).resolve("openai"));
const [chatModel, embeddingModel] = process.argv.slice(2);
const client = new OpenAI({ maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "Name a fruit. Answer with one word." }];

function check(name, holds, found) {
  if (!holds) {
    console.error(`${name}: does not hold: ${JSON.stringify(found)}`);
    process.exit(1);
  }
  console.log(`${name}: holds`);
}

async function refused(name, status, code, call) {
  const error = await call().then(() => null, (error) => error);
  check(name, error?.status === status && error.code === code, { status: error?.status, code: error?.code });
}

const settings = { model: chatModel, messages, max_tokens: 12, temperature: 0, seed: 1 };
const answer = await client.chat.completions.create(settings);
const text = answer.choices[0].message.content;
check("chat", text.length > 0 && answer.usage.completion_tokens > 0, answer);

let streamed = "";
let usage;
for await (const piece of await client.chat.completions.create({ ...settings, stream: true, stream_options: { include_usage: true } })) {
  streamed += piece.choices[0]?.delta.content ?? "";
  usage = piece.usage ?? usage;
}
check("streaming", streamed === text && usage.total_tokens > 0, { streamed, usage });

const runner = client.chat.completions.stream(settings);
check("stream helper", (await runner.finalContent()) === text);

const parameters = {
  type: "object",
  properties: { city: { type: "string", maxLength: 30 } },
  required: ["city"],
  additionalProperties: false,
};
const called = await client.chat.completions.create({
  ...settings,
  max_tokens: 200,
  tools: [{ type: "function", function: { name: "get_weather", parameters } }],
  tool_choice: { type: "function", function: { name: "get_weather" } },
});
const call = called.choices[0].message.tool_calls[0];
check("tool call", typeof JSON.parse(call.function.arguments).city === "string", called);

const schema = { type: "object", properties: { yes: { type: "boolean" } }, required: ["yes"], additionalProperties: false };
const formed = await client.chat.completions.create({
  ...settings,
  max_tokens: 100,
  response_format: { type: "json_schema", json_schema: { name: "answer", schema } },
});
check("JSON schema", typeof JSON.parse(formed.choices[0].message.content).yes === "boolean", formed);

const response = await client.responses.create({ model: chatModel, input: "Name a fruit.", max_output_tokens: 8, temperature: 0 });
check("responses", response.output_text.length > 0, response);

if (embeddingModel) {
  const embedded = await client.embeddings.create({ model: embeddingModel, input: ["a cat", "a dog"] });
  check("embeddings", embedded.data.length === 2 && embedded.data[0].embedding.length > 100, embedded.data.length);
}

await refused("unknown model", 404, "model_not_found", () => client.chat.completions.create({ ...settings, model: "nope" }));
await refused("value out of range", 400, "invalid_value", () => client.chat.completions.create({ ...settings, top_p: 2 }));
