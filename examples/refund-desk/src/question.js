// What the model is asked about a message: used by the function and by the client that asks the model itself.

/** Small on purpose: it fits a test machine, and it errs more often than a model that one would trust with money. */
export const MODEL = "smollm2-135m-instruct";

const LABELS = ["complaint", "other"];

const EXAMPLES = [
  ["When do you open on Sunday?", "other"],
  ["The lamp came in pieces and does not work.", "complaint"],
  ["Thank you, the books are great.", "other"],
  ["My parcel never arrived and I want my money back.", "complaint"],
];

/** A request in the form of the OpenAI interface; the schema leaves the model no answer but a label. */
export function question(message) {
  const shown = EXAMPLES.flatMap(([text, answer]) => [
    { role: "user", content: text },
    { role: "assistant", content: JSON.stringify({ label: answer }) },
  ]);
  const schema = {
    type: "object",
    properties: { label: { type: "string", enum: LABELS } },
    required: ["label"],
    additionalProperties: false,
  };
  return {
    model: MODEL,
    messages: [
      { role: "system", content: "You sort messages of customers. A complaint says that something is broken, wrong or missing." },
      ...shown,
      { role: "user", content: message },
    ],
    temperature: 0,
    seed: 1,
    max_tokens: 24,
    response_format: { type: "json_schema", json_schema: { name: "label", strict: true, schema } },
  };
}

/** The label in an answer. */
export function label(answer) {
  const found = JSON.parse(answer.choices[0]?.message.content ?? "{}").label;
  if (!LABELS.includes(found)) throw new Error("the model gave no label");
  return found;
}
