// The conversations of the chosen cell beside the checkpoint's, with the first token that differs marked in both.
import type { PageConversation, PageConversations } from "../page-data.ts";
import { make } from "./document.ts";
import { threeDecimals } from "./text.ts";

/** Control characters of model output as \x07 and the like; line ends and tabs stay. */
export function visible(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) =>
    character === "\n" || character === "\t"
      ? character
      : `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

/** @param mark  start and end of the differing token, or null */
export function message(role: string, text: string, column: string, mark: [number, number] | null): HTMLElement {
  const content = make("p", "content");
  content.dir = "auto";
  if (mark === null) content.append(visible(text));
  else {
    const [start, end] = mark;
    const token = visible(text.slice(start, end));
    const isShown = token.trim() !== "";
    content.append(
      make("span", "common", visible(text.slice(0, start))),
      make(
        "mark",
        isShown ? "" : "unseen",
        isShown ? token : end === start ? "⟨end⟩" : token.replaceAll("\n", "↵\n").replaceAll(" ", "␣"),
      ),
      visible(text.slice(end)),
    );
  }
  const kind = role === "assistant" ? "assistant" : "other";
  return make("div", `message ${kind} ${column}`, make("span", "role", role), content);
}

export function heading(title: string, reward: number, column: string): HTMLElement {
  return make("p", `whose ${column}`, title, " · ", make("span", "score", `reward ${threeDecimals(reward)}`));
}

/**
 * One prompt: the cell's conversation, and the checkpoint's beside it.
 * @param home  undefined if the cell is the checkpoint, or if the checkpoint has none
 */
export function conversation(
  { unit, texts }: PageConversations,
  here: PageConversation,
  home: PageConversation | undefined,
  prompt: number,
  isCheckpoint: boolean,
): HTMLElement {
  const { differs } = here;
  const title = make("h3", "", `Prompt ${prompt + 1}`);
  if (home !== undefined && differs === null) {
    const same = make(
      "details",
      "",
      make("summary", "", `The checkpoint’s conversation to the end, reward ${threeDecimals(here.reward)}`),
    );
    same.append(...here.messages.map(([role, text]) => message(role, texts[text], "", null)));
    return make("article", "one", title, same);
  }
  const article = make("article", home === undefined ? "one" : "two", title);
  if (differs !== null) {
    const sentence = `The first ${differs[4]} ${unit} are the checkpoint’s; the first that differs is marked.`;
    article.append(make("p", "place across", sentence));
  }
  article.append(heading(isCheckpoint ? "The checkpoint" : "This cell", here.reward, "left"));
  if (home !== undefined) article.append(heading("The checkpoint", home.reward, "right"));
  for (const turn of Array(Math.max(here.messages.length, home?.messages.length ?? 0)).keys()) {
    const [role, text] = here.messages[turn] ?? ["", -1];
    const [otherRole, otherText] = home?.messages[turn] ?? ["", -1];
    // The messages that both conversations share are shown once, across both columns.
    const isShared = role === otherRole && text === otherText;
    const isMarked = differs !== null && differs[0] === turn && home !== undefined;
    if (text >= 0)
      article.append(
        message(
          role,
          texts[text],
          home === undefined || isShared ? "across" : "left",
          isMarked ? [differs[1], differs[2]] : null,
        ),
      );
    if (!isShared && otherText >= 0)
      article.append(message(otherRole, texts[otherText], "right", isMarked ? [differs[1], differs[3]] : null));
  }
  return article;
}
