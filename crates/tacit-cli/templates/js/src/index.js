import { request, state } from "tacit";

export async function greet({ name }) {
  const count = ((await state.get("count")) ?? 0) + 1;
  await state.set("count", count);
  return { greeting: `Hello, ${name}!`, count, caller: request.caller };
}

export async function count() {
  return { count: (await state.get("count")) ?? 0 };
}
