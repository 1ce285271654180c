import { state } from "tacit";

export async function price({ pair }: { pair: string }) {
  const response = await fetch(`https://api.coinbase.com/v2/prices/${encodeURIComponent(pair)}/spot`);
  if (!response.ok) {
    throw new Error(`the price service answered ${response.status}`);
  }
  const { data } = (await response.json()) as { data: { amount: string; currency: string } };
  const found = { pair, amount: data.amount, currency: data.currency, time: Date.now() };
  await state.set(`last/${pair}`, found);
  return found;
}

export async function last({ pair }: { pair: string }) {
  return (await state.get(`last/${pair}`)) ?? null;
}
