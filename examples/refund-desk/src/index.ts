import { chain, model } from "tacit";
import { MODEL, label, question } from "./question.js";

/** A buyer's message about an order; nobody but this function and the model beside it reads it. */
interface Complaint {
  /** The order, 32 bytes as 0x-hex. */
  order: `0x${string}`;
  message: string;
  /** The contract that holds the order's money. */
  desk: string;
}

/** Lets the model judge a message, and tells the desk to pay back if it is a complaint. The desk learns nothing else. */
export async function complain({ order, message, desk }: Complaint) {
  if (!/^0x[0-9a-f]{64}$/.test(order)) throw new TypeError("an order is 0x and 64 hex digits");
  const answer = await model.chat(question(message));
  const found = label(answer);
  if (found === "complaint") {
    await chain.publish({ chain: "local", contract: desk, topic: "refund", data: order });
  }
  return { label: found, model: MODEL, receipt: answer.receipt };
}
