"""The official Python client, unchanged, against a Tacit endpoint: OPENAI_BASE_URL and OPENAI_API_KEY say where.

Usage: check.py CHAT_MODEL [EMBEDDING_MODEL]. Prints one line for each check that holds; any other answer ends it with an error.
"""

import json
import math
import sys

import openai

CLIENT = openai.OpenAI(max_retries=0, timeout=120)
CHAT = sys.argv[1]
EMBEDDING = sys.argv[2] if len(sys.argv) > 2 else None
QUESTION = [{"role": "user", "content": "Name a fruit. Answer with one word."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 30}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def check(name, holds, found=""):
    if not holds:
        sys.exit(f"{name}: does not hold: {found}")
    print(f"{name}: holds")


def refused(name, kind, code, call):
    try:
        call()
    except kind as error:
        check(name, error.code == code, f"code {error.code!r}")
    else:
        sys.exit(f"{name}: was not refused")


def chat():
    answer = CLIENT.chat.completions.create(model=CHAT, messages=QUESTION, max_tokens=12, temperature=0, seed=1)
    message = answer.choices[0].message
    check("chat", message.role == "assistant" and message.content, answer)
    usage = answer.usage
    check("usage", usage.prompt_tokens > 5 and 1 <= usage.completion_tokens <= 12, usage)
    again = CLIENT.chat.completions.create(model=CHAT, messages=QUESTION, max_tokens=12, temperature=0, seed=1)
    check("same seed, same answer", again.choices[0].message.content == message.content, again)
    several = CLIENT.chat.completions.create(model=CHAT, messages=QUESTION, max_tokens=4, n=2, seed=1)
    check("two choices", [choice.index for choice in several.choices] == [0, 1], several)
    told = CLIENT.chat.completions.create(model=CHAT, messages=QUESTION, max_tokens=2, logprobs=True, top_logprobs=2)
    tokens = told.choices[0].logprobs.content
    check("logprobs", tokens and all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in tokens), told)
    return message.content


def streaming(expected):
    pieces = CLIENT.chat.completions.create(
        model=CHAT, messages=QUESTION, max_tokens=12, temperature=0, seed=1, stream=True,
        stream_options={"include_usage": True},
    )
    text, usage, finish = "", None, None
    for piece in pieces:
        for choice in piece.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
        usage = piece.usage or usage
    check("streaming", text == expected and finish in ("stop", "length"), (text, finish))
    check("usage of a stream", usage and usage.total_tokens == usage.prompt_tokens + usage.completion_tokens, usage)


def tools():
    answer = CLIENT.chat.completions.create(
        model=CHAT, messages=[{"role": "user", "content": "What is the weather in Rome?"}], tools=[WEATHER],
        tool_choice="required", max_tokens=200, temperature=0,
    )
    calls = answer.choices[0].message.tool_calls
    check("tool call", answer.choices[0].finish_reason == "tool_calls" and calls[0].function.name == "get_weather", answer)
    check("tool arguments", isinstance(json.loads(calls[0].function.arguments)["city"], str), calls)
    conversation = [
        {"role": "user", "content": "What is the weather in Rome?"},
        {"role": "assistant", "content": None, "tool_calls": [calls[0].model_dump()]},
        {"role": "tool", "tool_call_id": calls[0].id, "content": "Sunny, 25 degrees."},
    ]
    after = CLIENT.chat.completions.create(model=CHAT, messages=conversation, tools=[WEATHER], tool_choice="none", max_tokens=8)
    check("answer after a tool", after.choices[0].message.content is not None, after)


def schema():
    form = {
        "type": "object",
        "properties": {"fruit": {"type": "string", "enum": ["apple", "pear"]}, "count": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["fruit", "count"],
        "additionalProperties": False,
    }
    answer = CLIENT.chat.completions.create(
        model=CHAT, messages=QUESTION, max_tokens=100, temperature=0,
        response_format={"type": "json_schema", "json_schema": {"name": "fruit", "schema": form, "strict": True}},
    )
    found = json.loads(answer.choices[0].message.content)
    check("JSON schema", found["fruit"] in ("apple", "pear") and 0 <= found["count"] <= 9, found)


def others(expected):
    check("models", CHAT in [model.id for model in CLIENT.models.list()])
    completion = CLIENT.completions.create(model=CHAT, prompt=["The sky is", "Grass is"], max_tokens=3, temperature=0)
    check("completions", len(completion.choices) == 2 and completion.choices[0].text, completion)
    response = CLIENT.responses.create(model=CHAT, input="Name a fruit.", max_output_tokens=8, temperature=0)
    check("responses", response.output_text, response)
    events = list(CLIENT.responses.create(model=CHAT, input="Name a fruit.", max_output_tokens=8, temperature=0, stream=True))
    told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    check("responses as a stream", told == response.output_text, told)


def embeddings():
    texts = ["A cat sits on the mat.", "A kitten is sitting on a rug.", "Stock markets fell sharply."]
    answer = CLIENT.embeddings.create(model=EMBEDDING, input=texts)
    vectors = [item.embedding for item in answer.data]
    similar = lambda a, b: sum(x * y for x, y in zip(a, b))
    check("embeddings", all(math.isclose(similar(v, v), 1, abs_tol=1e-3) for v in vectors), [len(v) for v in vectors])
    check("alike texts are near", similar(vectors[0], vectors[1]) > similar(vectors[0], vectors[2]) + 0.2)


def errors():
    ask = lambda **more: CLIENT.chat.completions.create(**{"model": CHAT, "messages": QUESTION, "max_tokens": 4, **more})
    refused("unknown model", openai.NotFoundError, "model_not_found", lambda: ask(model="gpt-nope"))
    refused("value out of range", openai.BadRequestError, "invalid_value", lambda: ask(temperature=3))
    refused("unknown parameter", openai.BadRequestError, "unknown_parameter", lambda: ask(extra_body={"nonsense": 1}))
    long = [{"role": "user", "content": "word " * 20000}]
    refused("context overflow", openai.BadRequestError, "context_length_exceeded", lambda: ask(messages=long))
    bad = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}
    refused("bad schema", openai.BadRequestError, "invalid_json_schema", lambda: ask(response_format=bad))


if __name__ == "__main__":
    first = chat()
    streaming(first)
    tools()
    schema()
    others(first)
    if EMBEDDING:
        embeddings()
    errors()
