// The official OpenAI client for JavaScript against a gateway of this network. INFERNET_GATEWAY, INFERNET_MODEL and
// INFERNET_FEATURES are as in ../checks.py.

import OpenAI, { toFile } from "openai";

const base = process.env.INFERNET_GATEWAY.replace(/\/+$/, "") + "/v1";
const features = new Set((process.env.INFERNET_FEATURES ?? "").split(",").filter(Boolean));
const client = new OpenAI({ baseURL: base, apiKey: "none" });
const story = [{ role: "user", content: "Tell me a story about a fox." }];
const weather = {
  type: "object",
  properties: { city: { type: "string", maxLength: 20 } },
  required: ["city"],
  additionalProperties: false,
};
let count = 0;

function check(holds, what) {
  count += 1;
  if (!holds) {
    console.log(`not so: ${what}`);
    process.exit(1);
  }
  console.log(`ok: ${what}`);
}

async function refused(kind, what, act) {
  try {
    await act();
  } catch (error) {
    check(error instanceof kind, what);
    return error;
  }
  check(false, what);
}

async function chat(model) {
  const answer = await client.chat.completions.create({ model, messages: story, max_tokens: 12 });
  check(answer.choices[0].message.content.length > 0, "an answer has text");
  check(answer.usage.completion_tokens > 0 && answer.usage.completion_tokens <= 12, "its tokens are counted");
  const stream = await client.chat.completions.create({
    model, messages: story, max_tokens: 12, stream: true, stream_options: { include_usage: true },
  });
  let text = "";
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  check(text.length > 0 && usage.completion_tokens > 0, "a stream has text and usage");
  const helper = client.chat.completions.stream({ model, messages: story, max_tokens: 8 });
  check((await helper.finalContent()).length > 0, "the client puts a stream together");
  const early = await client.chat.completions.create({ model, messages: story, stream: true });
  for await (const _ of early) break;
  check(true, "a stream can be left early");
}

async function tools(model) {
  const tool = { type: "function", function: { name: "weather", parameters: weather } };
  const asked = { model, messages: story, tools: [tool], tool_choice: "required", max_tokens: 60 };
  if (!features.has("tools")) {
    await refused(OpenAI.UnprocessableEntityError, "tools are refused", () => client.chat.completions.create(asked));
    return;
  }
  const answer = await client.chat.completions.create(asked);
  check("city" in JSON.parse(answer.choices[0].message.tool_calls[0].function.arguments), "a tool is called");
  const final = await client.chat.completions.stream(asked).finalChatCompletion();
  check(final.choices[0].message.tool_calls[0].function.name === "weather", "and in a stream");
}

async function structured(model) {
  const response_format = { type: "json_schema", json_schema: { name: "weather", strict: true, schema: weather } };
  const ask = () => client.chat.completions.create({ model, messages: story, response_format, max_tokens: 300, temperature: 0 });
  if (!features.has("json_schema")) {
    await refused(OpenAI.UnprocessableEntityError, "a schema is refused", ask);
    return;
  }
  const answer = await ask();
  check("city" in JSON.parse(answer.choices[0].message.content), "an answer keeps to its schema");
}

async function embeddings(model) {
  const ask = () => client.embeddings.create({ model, input: ["a fox", "a hedgehog"] });
  if (!features.has("embeddings")) {
    await refused(OpenAI.UnprocessableEntityError, "embeddings are refused", ask);
    return;
  }
  const answer = await ask();
  check(answer.data.length === 2 && answer.data[0].embedding.length > 0, "texts have vectors");
}

async function batch(model) {
  const line = (number) =>
    JSON.stringify({
      custom_id: `request-${number}`,
      method: "POST",
      url: "/v1/chat/completions",
      body: { model, messages: story, max_tokens: 3 },
    });
  const file = await client.files.create({
    file: await toFile(Buffer.from(`${line(0)}\n${line(1)}\n`), "input.jsonl"),
    purpose: "batch",
  });
  let made = await client.batches.create({
    input_file_id: file.id,
    endpoint: "/v1/chat/completions",
    completion_window: "24h",
  });
  const began = Date.now();
  while (!["completed", "failed", "expired"].includes(made.status) && Date.now() < began + 60_000)
    made = await client.batches.retrieve(made.id);
  check(made.status === "completed" && made.request_counts.completed === 2, "a batch is completed");
  const text = await (await client.files.content(made.output_file_id)).text();
  const ids = text.trim().split("\n").map((line) => JSON.parse(line).custom_id);
  check(ids.join() === "request-0,request-1", "results keep their order");
}

async function responses(model) {
  const answer = await client.responses.create({ model, input: "Tell me a story about a fox.", max_output_tokens: 12 });
  check(answer.output_text.length > 0, "a response has text");
  const stream = await client.responses.create({ model, input: "What is your name?", stream: true });
  let text = "";
  let last;
  for await (const event of stream) {
    if (event.type === "response.output_text.delta") text += event.delta;
    last = event;
  }
  check(text.length > 0 && ["response.completed", "response.incomplete"].includes(last.type), "and streams");
}

async function errors(model) {
  const missing = () => client.chat.completions.create({ model: "no-such-model", messages: story });
  const error = await refused(OpenAI.NotFoundError, "a model that nobody serves is not found", missing);
  check(error.code === "model_not_found", "with its code");
  const hasty = client.withOptions({ timeout: 1, maxRetries: 0 });
  const late = () => hasty.chat.completions.create({ model, messages: story });
  await refused(OpenAI.APIConnectionTimeoutError, "a client that waits no longer is not held", late);
}

const listed = (await client.models.list()).data;
check(listed.length > 0, "models are listed");
const model = process.env.INFERNET_MODEL ?? listed[0].id;
await chat(model);
await tools(model);
await structured(model);
await embeddings(model);
await batch(model);
await responses(model);
await errors(model);
console.log(`${count} checks hold`);
