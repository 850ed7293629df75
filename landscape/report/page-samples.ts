// The report's sample conversations of training steps: plain HTML, so they are there without JavaScript too.
import type { Study, TrainingConversation } from "./figures/figure-data.ts";
import type { Markup } from "./figures/svg.ts";
import { html } from "./html.ts";

/** null if the study shows none. */
export function trainingSamples({ trainingSamples: samples = [] }: Study): Markup | null {
  const shown = samples.filter(({ conversations }) => conversations.length > 0);
  if (shown.length === 0) return null;
  return html`<section aria-labelledby="samples">
<h2 id="samples">Conversations in training</h2>
<p class="caption">The first rollout of the first prompts of a step, before its update.</p>
${shown.map(
  ({ step, conversations }) => html`<details><summary>Step ${step}</summary>
${conversations.map(conversation)}</details>
`,
)}</section>`;
}

function conversation({ episode, reward, advantage, messages }: TrainingConversation): Markup {
  const numbers = `reward ${reward.toFixed(2)}, advantage ${advantage.toFixed(2)}`.replaceAll("-", "−");
  return html`<article class="sample">
<p class="whose">Episode ${episode} · <span class="score">${numbers}</span></p>
${messages.map(
  ({ role, content }) =>
    html`<div class="message ${role === "assistant" ? "assistant" : "other"}"><span class="role">${role}</span><p class="content" dir="auto">${content}</p></div>
`,
)}</article>
`;
}
