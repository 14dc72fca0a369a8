// fetch and getReader as many write it: every piece that arrives is taken for whole events.
const response = await fetch(`${process.env.URL}/v1/chat/completions?stream=true`, {
  method: "POST",
  headers: {"Content-Type": "application/json", "x-api-key": process.env.KEY},
  body: JSON.stringify({model: "test-model", messages: [{role: "user", content: process.argv[2]}]}),
});
const reader = response.body.getReader();
const decoder = new TextDecoder("utf-8");

while (true) {
  const {done, value} = await reader.read();
  if (done) break;
  const events = decoder.decode(value).split("\n\n").filter(Boolean);
  for (const event of events) {
    if (event.startsWith(":")) continue;
    const message = event.replace(/^data: /, "");
    if (message === "[DONE]") {
      console.log(" [end]");
      break;
    }
    const text = JSON.parse(message).choices[0].delta.content;
    if (text) process.stdout.write(text);
  }
}
