"""Chunks carry the symbol and the kind of what they define, in every language that is parsed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from pipeline.chunking import KINDS, chunk
from pipeline.grammars.tables import GRAMMARS

LIMIT: Final = 400
"""Two of the filled bodies do not fit, so that classes are opened."""


class Snippet(NamedTuple):
    """A file in which every line `BODY` stands for ten statements, and what its chunks should be."""

    source: str
    expected: list[tuple[str, str]]
    statement: str = "compute(alpha, beta);"

    def filled(self) -> str:
        """Return the source with its bodies filled in."""
        return re.sub(r"( *)BODY\n", lambda match: f"{match[1]}{self.statement}\n" * 10, self.source.lstrip("\n"))


CALL: Final = "compute(alpha, beta)"

SNIPPETS: Final = {
    "python": Snippet(
        """
import os

# The first comment belongs to the function.
@decorated
def first(a):
    BODY

class Reader(Base):
    \"\"\"Reads.\"\"\"

    @property
    def second(self):
        BODY

    async def third(self):
        BODY

if __name__ == "__main__":
    first(1)
""",
        [
            ("first", "function"),
            ("Reader", "class"),
            ("Reader.second", "method"),
            ("Reader.third", "method"),
            ("", "block"),
        ],
        CALL,
    ),
    "javascript": Snippet(
        """
import x from 'y';
export const first = async (a) => {
  BODY
};
export default class Reader extends Base {
  #size = 1;
  second() {
    BODY
  }
  third = () => {
    BODY
  };
}
Reader.prototype.fourth = function () {
  BODY
};
module.exports.fifth = function () {
  BODY
};
const handlers = {
  sixth() {
    BODY
  },
  seventh: function () {
    BODY
  },
};
""",
        [
            ("first", "function"),
            ("Reader", "class"),
            ("Reader.second", "method"),
            ("Reader.third", "method"),
            ("Reader.fourth", "method"),
            ("fifth", "function"),
            ("handlers.sixth", "method"),
            ("handlers.seventh", "function"),
        ],
    ),
    "typescript": Snippet(
        """
export interface Shape {
  BODY
}
export type Pair = {
  BODY
};
namespace Tools {
  export function first<T>(a: T): T {
    BODY
  }
}
@Component({ selector: 'x' })
export abstract class Reader<T> {
  private size = 1;
  @log()
  second(): void {
    BODY
  }
  third = async (): Promise<void> => {
    BODY
  };
}
export enum Color {
  Red = 'alphaalphaalphaalphaalphaalpha',
  Green = 'alphaalphaalphaalphaalphaalpha',
  Blue = 'alphaalphaalphaalphaalphaalpha',
}
""",
        [
            ("Shape", "interface"),
            ("Pair", "type"),
            ("Tools.first", "function"),
            ("Reader", "class"),
            ("Reader.second", "method"),
            ("Reader.third", "method"),
            ("Color", "enum"),
        ],
    ),
    "tsx": Snippet(
        """
export function Page({ title }: Props): JSX.Element {
  BODY
  return <h1 className="x">{title}</h1>;
}
const Card = (props: Props) => {
  BODY
  return <div />;
};
""",
        [("Page", "function"), ("Card", "function")],
    ),
    "go": Snippet(
        """
package main

import "fmt"

// First does it.
func First(a int) error {
	BODY
}

type Reader[T any] struct {
	// alphaalphaalphaalphaalphaalphaalpha
	size int64
	names map[string]string
	lock sync.RWMutex
}

type Store interface {
	Load(name string, options ...Option) (Value, error)
	Save(name string, value Value) (bool, error)
}

func (r *Reader[T]) Second() {
	BODY
}
func (Reader[T]) Third() {
	BODY
}
""".replace("\t", "    "),
        [
            ("First", "function"),
            ("Reader", "struct"),
            ("Store", "interface"),
            ("Reader.Second", "method"),
            ("Reader.Third", "method"),
        ],
        CALL,
    ),
    "rust": Snippet(
        """
use std::fmt;

/// Holds it.
#[derive(Debug)]
pub struct Reader<T> {
    pub alpha: HashMap<String, Vec<T>>,
    pub beta: HashMap<String, Vec<T>>,
}

impl<T: Clone> fmt::Display for Reader<T> {
    /// Formats it.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        BODY
    }
    fn second(&self) {
        BODY
    }
}

pub trait Store {
    fn load(&self, name: &str, options: &[Option]) -> Result<Value, Error>;
    fn save(&self, name: &str, value: Value) -> Result<(), Error>;
}

mod tests {
    #[test]
    fn third() {
        BODY
    }
}
""",
        [
            ("Reader", "struct"),
            ("Reader", "class"),
            ("Reader.fmt", "method"),
            ("Reader.second", "method"),
            ("Store", "interface"),
            ("tests.third", "function"),
        ],
    ),
    "java": Snippet(
        """
package a.b;
import x.y.Z;
/** Reads. */
@Deprecated
public class Reader<T> extends Base {
    private int size = 3;
    public Reader(int a) {
        BODY
    }
    @Override
    public int second(String s) {
        BODY
    }
    enum Color {
        RED("alphaalphaalphaalpha"),
        GREEN("alphaalphaalphaalpha"),
        BLUE("alphaalphaalphaalpha");
    }
}
""",
        [
            ("Reader", "class"),
            ("Reader.Reader", "method"),
            ("Reader.second", "method"),
            ("Reader.Color", "enum"),
        ],
    ),
    "c": Snippet(
        """
#ifndef READER_H
#define READER_H
#include <stdio.h>
/* Does it. */
static const char *
first(int a, char **b)
{
    BODY
}
typedef struct {
    unsigned long alphaalphaalpha;
    unsigned long betabetabetabeta;
    unsigned long gammagammagamma;
} pair_t;
int (*second(void))(int) {
    BODY
}
static const struct entry table[] = {
    { "alphaalphaalphaalpha", 1 }, { "alphaalphaalphaalpha", 1 },
    { "alphaalphaalphaalpha", 1 }, { "alphaalphaalphaalpha", 1 },
    { "alphaalphaalphaalpha", 1 }, { "alphaalphaalphaalpha", 1 },
    { "alphaalphaalphaalpha", 1 }, { "alphaalphaalphaalpha", 1 },
};
#endif
""",
        [("first", "function"), ("pair_t", "struct"), ("second", "function"), ("table", "variable")],
    ),
    "cpp": Snippet(
        """
namespace a::b {
template <typename T>
class Reader : public Base {
 public:
  Reader() {
    BODY
  }
  bool operator==(const Reader& o) const {
    BODY
  }
};
template <typename T>
std::string& Reader<T>::second(int x) {
  BODY
}
}  // namespace a::b
extern "C" {
void third() {
  BODY
}
}
""",
        [
            ("a.b.Reader", "class"),
            ("a.b.Reader.Reader", "method"),
            ("a.b.Reader.operator==", "method"),
            ("a.b.Reader.second", "method"),
            ("third", "function"),
        ],
    ),
    "csharp": Snippet(
        """
using System;
namespace A.B;

/// <summary>Reads.</summary>
[Serializable]
public class Reader : Base
{
    private int size = 3;
    public Reader(int a)
    {
        BODY
    }
    public async Task<int> Second(string s)
    {
        BODY
    }
}
public interface IStore
{
    Task<Value> LoadAsync(string name, CancellationToken token);
    Task<Value> SaveAsync(string name, CancellationToken token);
}
""",
        [
            ("A.B.Reader", "class"),
            ("A.B.Reader.Reader", "method"),
            ("A.B.Reader.Second", "method"),
            ("A.B.IStore", "interface"),
        ],
    ),
    "ruby": Snippet(
        """
require 'json'

module Tools
  # Reads.
  class Reader < Base
    attr_reader :size

    def first(a)
      BODY
    end

    def self.second
      BODY
    end
  end
end
""",
        [("Tools.Reader", "class"), ("Tools.Reader.first", "method"), ("Tools.Reader.second", "method")],
        CALL,
    ),
    "php": Snippet(
        """
<?php
namespace App\\Models;
use X\\Y;

/** Reads. */
#[Entity]
class Reader extends Base
{
    private $size = 3;
    public function first($a)
    {
        BODY
    }
    public static function second()
    {
        BODY
    }
}
function third()
{
    BODY
}
""",
        [
            ("App.Models.Reader", "class"),
            ("App.Models.Reader.first", "method"),
            ("App.Models.Reader.second", "method"),
            ("App.Models.third", "function"),
        ],
    ),
    "kotlin": Snippet(
        """
package a.b

import x.y

/** Reads. */
@Ann
class Reader<T>(val x: Int) : Base() {
    val size = 3

    fun first(name: String): Int {
        BODY
    }

    companion object {
        fun second() {
            BODY
        }
    }
}

object Tools {
    fun third() {
        BODY
    }
}

fun String.fourth() {
    BODY
}
""",
        [
            ("Reader", "class"),
            ("Reader.first", "method"),
            ("Reader.Companion", "class"),
            ("Tools", "class"),
            ("fourth", "function"),
        ],
        CALL,
    ),
    "swift": Snippet(
        """
import Foundation

/// Reads.
public class Reader: Base {
    var size: Int = 3

    init(a: Int) {
        BODY
    }

    func first(name: String) -> Int {
        BODY
    }
}

extension Reader {
    func second() {
        BODY
    }
}

protocol Store {
    func load(name: String, options: [Option]) throws -> Value
    func save(name: String, value: Value) throws -> Bool
}
""",
        [
            ("Reader", "class"),
            ("Reader.init", "method"),
            ("Reader.first", "method"),
            ("Reader", "class"),
            ("Store", "interface"),
        ],
        CALL,
    ),
    "scala": Snippet(
        """
package a.b

/** Reads. */
case class Reader[T](x: Int) extends Base {
  val size = 3

  def first(n: Int): Int = {
    BODY
  }

  def second(n: Int): Int = {
    BODY
  }
}

trait Store {
  def load(name: String, options: Seq[Option]): Either[Error, Value]
  def save(name: String, value: Value): Either[Error, Unit]
}
""",
        [("Reader", "class"), ("Reader.first", "method"), ("Reader.second", "method"), ("Store", "interface")],
        CALL,
    ),
    "lua": Snippet(
        """
local M = {}

-- Does it.
function M.first(a)
  BODY
end

function M:second()
  BODY
end

M.third = function()
  BODY
end

local function fourth()
  BODY
end

return M
""",
        [("M.first", "function"), ("M.second", "method"), ("M.third", "function"), ("fourth", "function")],
        CALL,
    ),
    "bash": Snippet(
        """
#!/bin/bash
set -e

# Does it.
first() {
  BODY
}

function second {
  BODY
}

first "$@"
""",
        [("first", "function"), ("second", "function")],
        "compute alphaalpha betabeta",
    ),
    "sql": Snippet(
        """
-- The users.
CREATE TABLE public.users (
  alphaalphaalphaalphaalpha int primary key,
  betabetabetabetabetabeta text not null
);
CREATE OR REPLACE FUNCTION first(a int) RETURNS int AS $$
BEGIN
  RETURN alphaalphaalphaalpha + betabetabetabetabeta;
END;
$$ LANGUAGE plpgsql;
CREATE VIEW active AS
  SELECT alphaalphaalphaalphaalpha, betabetabetabetabeta FROM public.users WHERE active;
""",
        [("public.users", "table"), ("first", "function"), ("active", "table")],
    ),
    "html": Snippet(
        """
<!DOCTYPE html>
<html>
<head>
<title>Long enough to be opened</title>
</head>
<body>
  BODY
  BODY
</body>
</html>
""",
        [("", "block"), ("", "block")],
        "<p>alpha and beta</p>",
    ),
    "css": Snippet(
        """
.first, .second > p {
  BODY
}
@media print {
  .third {
    BODY
  }
}
""",
        [(".first, .second > p", "rule"), ("@media print", "rule")],
        "color: alphaalphabet;",
    ),
    "json": Snippet(
        """
{
  "first": {
    BODY
    "last": 1
  },
  "second": [
    1
  ],
  "third": {
    BODY
    BODY
    "last": 1
  }
}
""",
        [("first", "entry"), ("third", "entry"), ("third", "entry")],
        '"alpha": "betabetabeta",',
    ),
    "yaml": Snippet(
        """
# The first.
first:
  BODY
second:
  nested:
    BODY
    BODY
""",
        [("first", "entry"), ("second.nested", "entry"), ("second.nested", "entry")],
        "- alpha: betabetabetabe",
    ),
    "toml": Snippet(
        """
title = "x"

[tool.first]
BODY

[[second]]
BODY
""",
        [("tool.first", "entry"), ("second", "entry")],
        'alpha = "betabetabeta"',
    ),
    "markdown": Snippet(
        """
# Title

Intro.

## First *part*

BODY

## Second

BODY
""",
        [("Title.First part", "section"), ("Title.Second", "section")],
        "Alpha and beta go to town.",
    ),
}


def outline(source: str, language: str, limit: int = LIMIT) -> list[tuple[str, str]]:
    """Return the symbols and kinds of the chunks of a text."""
    return [(piece.symbol, piece.kind) for piece in chunk(source, language, limit=limit)]


def test_every_grammar_has_a_snippet() -> None:
    """A language is called syntax-aware only with an example of what is found in it (R42)."""
    assert set(SNIPPETS) == set(GRAMMARS)


@pytest.mark.parametrize("language", SNIPPETS)
def test_chunks_are_named_after_what_they_define(language: str) -> None:
    """Symbols are dotted paths and kinds the documented words, in source order (R42)."""
    snippet = SNIPPETS[language]
    assert outline(snippet.filled(), language) == snippet.expected


def test_the_languages_page_names_every_language_and_kind() -> None:
    """The documentation lists what the code knows, no more and no less."""
    page = (Path(__file__).parents[2] / "docs" / "languages.md").read_text()
    parsed, _, kinds = page.partition("## Kinds")
    assert set(re.findall(r"^\| `(\w+)`", parsed, re.MULTILINE)) == set(GRAMMARS)
    assert tuple(re.findall(r"^\| `(\w+)`", kinds, re.MULTILINE)) == KINDS
