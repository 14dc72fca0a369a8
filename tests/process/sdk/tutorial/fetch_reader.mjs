// fetch and getReader, with what is left of the last line carried over.
const response = await fetch(`${process.env.URL}/v1/chat/completions`, {
  method: "POST",
  headers: {"Content-Type": "application/json", Authorization: `Bearer ${process.env.KEY}`},
  body: JSON.stringify({model: "test-model", stream: true, messages: [{role: "user", content: process.argv[2]}]}),
});
if (!response.ok) throw new Error(`HTTP ${response.status}`);

const reader = response.body.getReader();
const decoder = new TextDecoder();
let buffer = "";
for (;;) {
  const {done, value} = await reader.read();
  if (done) break;
  buffer += decoder.decode(value, {stream: true});
  const lines = buffer.split("\n");
  buffer = lines.pop();
  for (const line of lines) {
    if (!line.startsWith("data: ")) continue;
    const data = line.slice(6);
    if (data === "[DONE]") {
      console.log(" [end]");
    } else {
      process.stdout.write(JSON.parse(data).choices[0]?.delta?.content ?? "");
    }
  }
}
