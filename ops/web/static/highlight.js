// Colours code a little: comments, strings, numbers and keywords of the common languages; and marks the query's words.

import { el } from "./dom.js";

const words = (text) => new Set(text.trim().split(/\s+/));
const JAVASCRIPT = words(`
  as async await break case catch class const continue default delete do else enum export extends false finally
  for from function if implements import in instanceof interface let new null of private protected public readonly
  return static super switch this throw true try typeof undefined var void while yield
`);
const GO = words(`
  break case chan const continue default defer else fallthrough false for func go goto if import interface iota
  map nil package range return select struct switch true type var
`);
const RUST = words(`
  as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move
  mut pub ref return self Self static struct super trait true type union unsafe use where while
`);
const C_LIKE = words(`
  abstract as async auto await base bool boolean break byte case catch char class const constexpr continue data
  def default delete do double else enum explicit extends extension extern false final finally float for foreach
  friend fun func function given goto guard if implements import in inline instanceof int interface internal is
  let long namespace native new nil null nullptr object operator override package private protected protocol
  public readonly require return sealed short signed sizeof static struct super suspend switch synchronized
  template this throw throws trait true try typealias typedef typename union unsafe unsigned use using val var
  virtual void volatile when where while with yield
`);
const PYTHON = words(`
  and as assert async await break case class continue def del elif else except False finally for from global if
  import in is lambda match None nonlocal not or pass raise return self True try while with yield
`);
const RUBY = words(`
  alias and begin break case class def do else elsif end ensure false for if in module next nil not or redo rescue
  retry return self super then true undef unless until when while yield require attr_reader attr_accessor
`);
const SHELL = words("case do done elif else esac export fi for function if in local return select set shift then until while");
const SQL = words(`
  add all alter and as asc begin between by case check column commit conflict create cross default delete desc
  distinct do drop else end exists explain false for foreign from full function group having if in index inner
  insert into is join key lateral left like limit materialized not null offset on or order outer over partition
  primary recursive references returning right rollback select set table then true truncate union unique update
  using values view when where with
`);
const LUA = words("and break do else elseif end false for function goto if in local nil not or repeat return then true until while");
const NONE = new Set();

const HASH = "#[^\\n]*";
const SLASHES = "\\/\\/[^\\n]*|\\/\\*[\\s\\S]*?(?:\\*\\/|$)";
const DASHES = "--[^\\n]*|\\/\\*[\\s\\S]*?(?:\\*\\/|$)";
const MARKUP = "<!--[\\s\\S]*?(?:-->|$)";
const QUOTES = `"(?:\\\\[\\s\\S]|[^"\\\\\\n])*"?|'(?:\\\\[\\s\\S]|[^'\\\\\\n])*'?`;
const TRIPLE = `"""[\\s\\S]*?(?:"""|$)|'''[\\s\\S]*?(?:'''|$)|${QUOTES}`;
const BACKTICKS = `\`(?:\\\\[\\s\\S]|[^\`\\\\])*\`?|${QUOTES}`;
const LIFETIMES = `"(?:\\\\[\\s\\S]|[^"\\\\])*"?|'(?:\\\\.|[^'\\\\\\n])'`;

const grammar = (comment, string, keywords) => {
  const parts = [comment && `(?<comment>${comment})`, string && `(?<string>${string})`,
    "(?<number>\\b(?:0[xXbBoO][\\da-fA-F_]+|\\d[\\d_]*(?:\\.\\d+)?(?:[eE][+-]?\\d+)?)\\b)", "(?<word>[A-Za-z_]\\w*)"];
  return { pattern: new RegExp(parts.filter(Boolean).join("|"), "g"), keywords };
};
const C_GRAMMAR = grammar(SLASHES, QUOTES, C_LIKE);
const GRAMMARS = {
  python: grammar(HASH, TRIPLE, PYTHON),
  cython: grammar(HASH, TRIPLE, PYTHON),
  ruby: grammar(HASH, QUOTES, RUBY),
  bash: grammar(HASH, QUOTES, SHELL),
  yaml: grammar(HASH, QUOTES, words("true false null yes no on off")),
  toml: grammar(HASH, TRIPLE, words("true false")),
  sql: grammar(DASHES, QUOTES, SQL),
  lua: grammar("--\\[\\[[\\s\\S]*?(?:\\]\\]|$)|--[^\\n]*", QUOTES, LUA),
  rust: grammar(SLASHES, LIFETIMES, RUST),
  javascript: grammar(SLASHES, BACKTICKS, JAVASCRIPT),
  typescript: grammar(SLASHES, BACKTICKS, JAVASCRIPT),
  tsx: grammar(SLASHES, BACKTICKS, JAVASCRIPT),
  go: grammar(SLASHES, BACKTICKS, GO),
  c: C_GRAMMAR,
  cpp: C_GRAMMAR,
  csharp: C_GRAMMAR,
  java: C_GRAMMAR,
  kotlin: grammar(SLASHES, TRIPLE, C_LIKE),
  scala: grammar(SLASHES, TRIPLE, C_LIKE),
  swift: grammar(SLASHES, TRIPLE, C_LIKE),
  php: grammar(`${SLASHES}|${HASH}`, QUOTES, C_LIKE),
  css: grammar("\\/\\*[\\s\\S]*?(?:\\*\\/|$)", QUOTES, NONE),
  json: grammar(null, QUOTES, words("true false null")),
  html: grammar(MARKUP, QUOTES, NONE),
  xml: grammar(MARKUP, QUOTES, NONE),
};

const COMMON = words(`
  a an and are as at be by do does for from get has how in into is it its of on or our that the their there this
  to was what when where which who why with
`);

/** Return a pattern of the words of a query that are worth marking, null when there are none. */
export function queryPattern(query) {
  const asked = query.match(/[\p{L}\p{N}]{2,}/gu) ?? [];
  const worth = new Set(asked.map((word) => word.toLowerCase()).filter((word) => !COMMON.has(word)));
  const stems = [...worth].map((word) => (word.length > 5 ? word.replace(/(?:ing|ed|es|s)$/, "") : word));
  stems.sort((a, b) => b.length - a.length);
  return stems.length ? new RegExp(`(?:${stems.join("|")})(?:ings?|ed|e?s)?`, "giu") : null;
}

/** Return the lines of some code as elements, coloured and marked; their numbers begin with `first`. */
export function codeLines(code, language, pattern, first) {
  const lines = [line(first)];
  for (const { kind, text } of tokens(code, language)) {
    text.split("\n").forEach((piece, index) => {
      if (index) lines.push(line(first + lines.length));
      if (piece) lines.at(-1).append(...(kind ? [el(`span.${kind}`, {}, marked(piece, pattern))] : marked(piece, pattern)));
    });
  }
  return lines;
}

const line = (number) => el("span.row", { "data-line": number });

function tokens(code, language) {
  const known = GRAMMARS[language];
  if (!known) return [{ kind: null, text: code }];
  const found = [];
  let at = 0;
  for (const match of code.matchAll(known.pattern)) {
    const kind = kindOf(match.groups, known.keywords);
    if (!kind) continue;
    if (match.index > at) found.push({ kind: null, text: code.slice(at, match.index) });
    found.push({ kind, text: match[0] });
    at = match.index + match[0].length;
  }
  return [...found, { kind: null, text: code.slice(at) }];
}

function kindOf(groups, keywords) {
  if (groups.word) return keywords.has(groups.word) || (keywords === SQL && keywords.has(groups.word.toLowerCase())) ? "keyword" : null;
  return groups.comment ? "comment" : groups.string ? "string" : "number";
}

function marked(text, pattern) {
  if (!pattern) return [text];
  const pieces = [];
  let at = 0;
  for (const match of text.matchAll(pattern)) {
    pieces.push(text.slice(at, match.index), el("mark", {}, match[0]));
    at = match.index + match[0].length;
  }
  return [...pieces, text.slice(at)].filter(Boolean);
}
