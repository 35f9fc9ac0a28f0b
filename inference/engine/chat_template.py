"""Renders a conversation with the model's chat template, and keeps what the template wrote apart from its input."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, TemplateError, nodes

from inference.engine.errors import InvalidPrompt, LoadError, ToolsUnknown
from inference.engine.types import PromptEnding
from inference.engine.vocabulary import Vocabulary

#: roles of a message that a template may build a token from, as "<|" + role + "|>"
ROLES = ("system", "developer", "user", "assistant", "tool")

#: Two lone surrogates, which no text of a request can contain, represent a token until the text is rendered: this one,
#: because splitting a text at a single character is fastest, and one that identifies the token.
_MARK = "\ud800"
_NUMBERS = range(0xD801, 0xDFFF)
#: put at the end of a message that the model continues; the prompt is cut there
_CUT = _MARK + "\udfff"

#: methods and filters whose first argument is searched for and not written
_SEARCHES = {
    *("count", "endswith", "find", "index", "lstrip", "partition", "removeprefix", "removesuffix", "replace"),
    *("rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "startswith", "strip"),
}


class ChatTemplate:
    """A model's chat template whose own control tokens cannot be mistaken for text, nor text for them.

    Every control token in the template's source is replaced by a mark when the template is compiled. The texts of a
    request reach the template unchanged, so that it may trim, cut and search them, and they come out as text.
    """

    def __init__(self, tokenizer: Any, vocabulary: Vocabulary, source: str) -> None:
        """Raises LoadError when the template is damaged, or writes control tokens in unknown ways."""
        from transformers.utils.chat_template_utils import _compile_jinja_template

        self._controls = vocabulary.controls
        self._spelling = _Spelling({entry.content: i for i, entry in vocabulary.controls.items()})
        variables = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        try:
            # Its environment has everything that templates of released models use; it caches templates by their source.
            plain = _compile_jinja_template(source)
            environment: Environment = plain.environment
            tree = environment.parse(source)
            self._mark(tree)
            self._template = environment.template_class.from_code(
                environment, environment.compile(tree), environment.make_globals(None)
            )
        except TemplateError as error:
            raise LoadError(f"The model's chat template is damaged: {error}") from error
        self._variables = {name: self._spelling.mark(token) for name, token in variables.items()}
        self._refuse_hidden_tokens(plain, variables)
        #: whether the template tells the model which functions it may call, and how
        self.knows_tools = self._shows_tools()

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        variables: Mapping[str, Any] | None = None,
        ending: PromptEnding = "turn",
    ) -> list[str | int]:
        """The prompt up to where the answer begins: texts, and the ids of control tokens.

        A message's members are JSON values, and so are those of ``tools``, in OpenAI's format. ``variables`` are passed
        to the template too. Raises InvalidPrompt.
        """
        _check(messages)
        _check(tools)
        if tools and not self.knows_tools:
            raise ToolsUnknown
        try:
            rendered = _render(self._template, messages, {**self._variables, **(variables or {})}, tools, ending)
        except TemplateError as error:
            raise InvalidPrompt(f"The conversation does not fit the model's chat template: {error}") from error
        if ending == "inside":
            rendered, *rest = rendered.split(_CUT)
            if len(rest) != 1:
                raise InvalidPrompt("This model's chat template has no place at which the last message could go on.")
        texts, ids = self._spelling.read(rendered)
        for place, token in enumerate(ids):
            # Some tokens absorb the spaces beside them.
            if self._controls[token].lstrip:
                texts[place] = texts[place].rstrip()
            if self._controls[token].rstrip:
                texts[place + 1] = texts[place + 1].lstrip()
        segments = itertools.chain.from_iterable(itertools.zip_longest(texts, ids, fillvalue=""))
        return [segment for segment in segments if segment != ""]

    def _mark(self, node: nodes.Node, *, sought: bool = False) -> None:
        """Put marks into the literals that ``node`` writes; those that it only searches for stay unchanged."""
        if isinstance(node, nodes.TemplateData):
            node.data = self._spelling.mark(node.data)
        elif isinstance(node, nodes.Const) and isinstance(node.value, str) and not sought:
            node.value = self._spelling.mark(node.value)
        seeks = sought or isinstance(node, nodes.Compare | nodes.Test)
        for child in node.iter_child_nodes():
            self._mark(child, sought=seeks or _is_sought(child, node))

    def _refuse_hidden_tokens(self, plain: Any, variables: Mapping[str, str]) -> None:
        """Raises LoadError unless all control tokens of a rendered conversation come from marks."""
        for messages, tools in _samples():
            try:
                text = _render(plain, messages, variables, tools)
                rendered = _render(self._template, messages, self._variables, tools)
                found = self._spelling.read(rendered)[1]
            except (TemplateError, InvalidPrompt, TypeError):
                continue  # Some templates reject a system message, others a list of parts.
            if found != self._spelling.tokens_in(text):
                raise LoadError("The model's chat template puts its control tokens together out of unknown parts.")

    def _shows_tools(self) -> bool:
        messages = [{"role": "user", "content": "a"}]
        try:
            return _A_TOOL["function"]["name"] in _render(self._template, messages, self._variables, [_A_TOOL])
        except (TemplateError, TypeError):
            return False


class _Spelling:
    """Replaces tokens by marks, and marks by tokens."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._ids = ids
        # As the tokenizer matches them: the longest token that begins at a position.
        self._token = re.compile("|".join(map(re.escape, sorted(ids, key=len, reverse=True))) or "(?!)")
        #: (text before a role, text after it) → the roles that make a token with both
        self._frames = {
            (before, after): [role for role in ROLES if before + role + after in ids]
            for role in ROLES
            for token in ids
            for before, found, after in [token.partition(role)]
            if found and before and after
        }
        self._marks: dict[str, str] = {}
        #: second character of a mark → the token or part of a token
        self._spelt: dict[str, str] = {}
        self._framed = {
            self._mark_of(before) + role + self._mark_of(after): self._mark_of(before + role + after)
            for (before, after), roles in self._frames.items()
            for role in roles
        }

    def mark(self, literal: str) -> str:
        """``literal`` with a mark for each token, and for each part of a token that may be next to a role."""
        literal = self._token.sub(lambda found: self._mark_of(found.group()), literal)
        for before, after in self._frames:
            if literal.endswith(before):
                literal = literal.removesuffix(before) + self._mark_of(before)
            if literal.startswith(after):
                literal = self._mark_of(after) + literal.removeprefix(after)
        return literal

    def read(self, rendered: str) -> tuple[list[str], list[int]]:
        """The tokens of a rendered text, and the texts before, between and after them."""
        for framed, mark in self._framed.items():
            rendered = rendered.replace(framed, mark)
        first, *marked = rendered.split(_MARK)
        texts, ids = [first], []
        for piece in marked:
            spelt = self._spelt[piece[0]]
            if spelt in self._ids:
                ids.append(self._ids[spelt])
                texts.append(piece[1:])
            else:
                texts[-1] += spelt + piece[1:]
        return texts, ids

    def tokens_in(self, text: str) -> list[int]:
        """The tokens that a tokenizer would find in a text without marks."""
        return [self._ids[token] for token in self._token.findall(text)]

    def _mark_of(self, token: str) -> str:
        if token not in self._marks:
            if len(self._marks) == len(_NUMBERS):
                raise LoadError("The model's chat template writes too many different control tokens.")
            number = chr(_NUMBERS[len(self._marks)])
            self._marks[token], self._spelt[number] = _MARK + number, token
        return self._marks[token]


def _is_sought(child: nodes.Node, parent: nodes.Node) -> bool:
    """Whether ``parent`` searches for ``child`` in another value, or uses it as a key."""
    match parent:
        case nodes.Getitem(arg=arg):
            return child is arg
        case nodes.Pair(key=key):
            return child is key
        case nodes.Call(node=nodes.Getattr(attr=name), args=[first, *_]):
            return name in _SEARCHES and child is first
        case nodes.Filter(name=name, args=[first, *_]):
            return name in _SEARCHES and child is first
        case _:
            return False


def _render(
    template: Any,
    messages: Sequence[Mapping[str, Any]],
    variables: Mapping[str, Any],
    tools: Sequence[Mapping[str, Any]] = (),
    ending: PromptEnding = "turn",
) -> str:
    known = [{name: value for name, value in message.items() if value is not None} for message in messages]
    rendered: str = template.render(
        messages=_with_cut(known) if ending == "inside" else known,
        tools=list(tools) or None,
        documents=None,
        add_generation_prompt=ending == "turn",
        **variables,
    )
    return rendered


_A_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "look_it_up",
        "description": "a",
        "parameters": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
    },
}


def _with_cut(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The messages with the mark at the end of the last one's text."""
    *earlier, last = messages
    content = last["content"]
    if isinstance(content, str):
        content += _CUT
    else:
        content = [*content[:-1], {**content[-1], "text": content[-1]["text"] + _CUT}]
    return [*earlier, {**last, "content": content}]


def _samples() -> Iterable[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Conversations, and the tools that go with them."""
    turns = [(role, "a") for role in ("user", "assistant", "user")]
    for conversation in (turns[:1], turns, [("system", "a"), *turns]):
        as_texts = [{"role": role, "content": text} for role, text in conversation]
        as_parts = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in conversation]
        for messages in (as_texts, as_parts):
            yield messages, []
            yield messages, [_A_TOOL]
    function = {"name": "look_it_up", "arguments": {"a": "b"}}
    called = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": function}]}
    told = {"role": "tool", "tool_call_id": "1", "content": "a"}
    yield [{"role": "user", "content": "a"}, called, told], [_A_TOOL]


def _check(value: Any) -> None:
    """Raises InvalidPrompt unless ``value`` consists of JSON values whose texts are valid Unicode."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InvalidPrompt(
                "The conversation contains half of a surrogate pair, which is not valid Unicode."
            ) from None
    elif isinstance(value, Mapping):
        for name, item in value.items():
            _check(name)
            _check(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _check(item)
    elif value is not None and not isinstance(value, int | float):
        raise InvalidPrompt(f"The conversation holds a {type(value).__name__}, which is not JSON.")
