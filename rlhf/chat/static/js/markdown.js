// Markdown as DOM nodes. markdown-it parses (HTML off); its own renderer, which writes HTML, is never called. What is not
// in the lists below comes out as text. Links go to http, https and mail only; images are links, and are never loaded.

import MarkdownIt from "../vendor/markdown-it.min.js";
import { copyButton, h } from "./dom.js";

const parser = new MarkdownIt({ html: false, linkify: true, breaks: true });
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false }); // "e.g.the" is no address

const ELEMENTS = {
  paragraph: "p", bullet_list: "ul", ordered_list: "ol", list_item: "li", blockquote: "blockquote",
  table: "table", thead: "thead", tbody: "tbody", tr: "tr", th: "th", td: "td", strong: "strong", em: "em", s: "del",
};
const PROTOCOLS = new Set(["http:", "https:", "mailto:"]);

export function safeAddress(text) {
  try {
    const url = new URL(text); // without a base: what is not absolute is no link
    return PROTOCOLS.has(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function link(address) {
  const href = safeAddress(address ?? "");
  return href ? h("a", { href, title: href, target: "_blank", rel: "noopener noreferrer" }) : h("span", { class: "no-link" });
}

function codeBlock(token) {
  const language = token.info.trim().split(/\s+/)[0].slice(0, 30);
  return h("figure", { class: "code" },
    h("figcaption", {}, h("span", {}, language || "code"), copyButton("Copy the code", () => token.content)),
    h("pre", { tabindex: "0" }, h("code", {}, token.content.replace(/\n$/, ""))));
}

function image(token) {
  const element = link(token.attrGet("src"));
  element.append(`Image: ${token.content || token.attrGet("src") || "without a name"}`);
  return element;
}

const LEAVES = {
  text: (token) => token.content,
  softbreak: () => h("br"),
  hardbreak: () => h("br"),
  hr: () => h("hr"),
  code_inline: (token) => h("code", {}, token.content),
  code_block: codeBlock,
  fence: codeBlock,
  image,
};

function opened(token) {
  const kind = token.type.replace(/_open$/, "");
  if (kind === "link") return link(token.attrGet("href"));
  if (kind === "heading") return h(`h${Math.min(6, Number(token.tag.slice(1)) + 2)}`);
  if (!Object.hasOwn(ELEMENTS, kind)) return h("span");
  const start = kind === "ordered_list" ? Number.parseInt(token.attrGet("start"), 10) : NaN;
  return h(ELEMENTS[kind], Number.isFinite(start) ? { start } : {});
}

function build(tokens, root) {
  const stack = [root];
  for (const token of tokens) {
    const top = stack[stack.length - 1];
    if (token.nesting === 1) {
      const element = token.hidden ? null : opened(token); // hidden: the paragraphs of a tight list
      if (element) top.append(element);
      stack.push(element ?? top);
    } else if (token.nesting === -1) {
      if (stack.length > 1) stack.pop();
    } else if (token.type === "inline") build(token.children, top);
    else top.append(Object.hasOwn(LEAVES, token.type) ? LEAVES[token.type](token) : token.content);
  }
  return root;
}

// The top-level blocks, each with the lines that it was made of.
function blocks(text) {
  const lines = text.split("\n");
  const found = [];
  let depth = 0;
  for (const token of parser.parse(text, {})) {
    if (depth === 0) found.push({ source: `${token.type} ${token.map ? lines.slice(...token.map).join("\n") : ""}`, tokens: [] });
    found[found.length - 1].tokens.push(token);
    depth += token.nesting;
  }
  return found;
}

// Blocks that are as they were keep their nodes, so a reply that grows does not lose what the reader has selected.
const drawn = new WeakMap();

export function renderMarkdown(container, text, { whole = false } = {}) {
  const next = blocks(text);
  const old = whole ? [] : drawn.get(container) ?? [];
  let same = 0;
  while (same < old.length && same < next.length && old[same].source === next[same].source) same++;
  for (const block of next.slice(same)) block.nodes = [...build(block.tokens, h("div")).childNodes];
  for (let i = 0; i < same; i++) next[i].nodes = old[i].nodes;
  if (whole || !old.length) container.replaceChildren();
  for (const block of old.slice(same)) block.nodes.forEach((node) => node.remove());
  container.append(...next.slice(same).flatMap((block) => block.nodes));
  drawn.set(container, next);
}
