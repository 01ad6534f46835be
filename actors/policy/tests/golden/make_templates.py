"""Makes templates.json: chat templates of our own with every construct that we found in those of Qwen2.5, Qwen3, Llama 3.1
and 3.2, SmolLM2 and 3, Mistral, Phi-3 and 4, Gemma 2 and 3, DeepSeek-R1, Granite, OLMo 2, Zephyr, Yi and Command-R, each with
the texts that transformers' apply_chat_template makes of some chats (null: it refuses the chat).

    pip install transformers==5.* jinja2==3.1.*
    python actors/policy/tests/golden/make_templates.py

What the day decides is rendered on 2024-07-26.
"""

import datetime
import json
import pathlib

from transformers.utils import chat_template_utils as hf


class Day(datetime.datetime):
    @classmethod
    def now(cls):
        return cls(2024, 7, 26)


hf.datetime = Day
HERE = pathlib.Path(__file__).parent
TOKENS = {"bos_token": "<s>"}


def chat(*turns, **variables):
    messages = [turn if isinstance(turn, dict) else {"role": turn[0], "content": turn[1]} for turn in turns]
    return {"messages": messages, "variables": variables}


U, A, S = (lambda text: ("user", text)), (lambda text: ("assistant", text)), (lambda text: ("system", text))
PARTS = {"role": "user", "content": [{"type": "text", "text": " What is "}, {"type": "image"}, {"type": "text", "text": "it?"}]}
CALL = {"role": "assistant", "content": None, "tool_calls": [
    {"id": "a1", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": [2.0, None, True], "c": "é\"<>&'"}}}]}
RESULT = {"role": "tool", "content": "3", "name": "add"}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": ["array", "null"]}}, "required": ["a"]}}}]
PLAIN = [
    chat(U("1 + 1?")),
    chat(S(" Be brief.\n"), U("  Hi\n"), A("<think>\nThey greet.\n</think>\n\nHello!"), U("2 + 2?\n")),
    chat(S("Be brief."), U("Ärger & <b>Füße</b> \"'\\ 🙂"), A("Ok."), U("Why?"), A("\nBecause "), U("No.")),
    chat(U("q"), {"role": "assistant", "content": "a", "reasoning_content": "\nlong thought\n"}, U("r"), enable_thinking=False),
    chat(U("q"), enable_thinking=True),
]
REFUSED = [chat(A("first")), chat(U("one"), U("two")), chat(S("a"), S("b"), U("c"))]

FAMILIES = {
    "turns with markers, a default system message (as Qwen2.5, SmolLM2)": r"""
{%- if messages[0]['role'] != 'system' %}
    {{- '<|open|>system\nYou answer questions.<|close|>\n' }}
{%- endif %}
{% for message in messages %}
{{ '<|open|>' + message['role'] + '\n' + message['content'] + '<|close|>' + '\n' }}
{%- if loop.first and messages[0].role == 'system' %}{{ '' }}{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|open|>assistant\n' }}
{% endif %}
""",
    "thoughts of earlier turns are left out (as Qwen3)": r"""
{%- set state = namespace(searching=true, last=messages | length - 1) %}
{%- for message in messages[::-1] %}
    {%- set place = (messages | length - 1) - loop.index0 %}
    {%- if state.searching and message.role == "user" and message.content is string and not (message.content.startswith('<result>') and message.content.endswith('</result>')) %}
        {%- set state.searching = false %}
        {%- set state.last = place %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '[' + message.role + ']' + content + '[/]\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thought = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thought = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {%- if loop.index0 > state.last and (loop.last or thought) %}
            {{- '[model]<think>' + thought.strip('\n') + '</think>' + content.lstrip('\n') }}
        {%- else %}
            {{- '[model]' + content }}
        {%- endif %}
        {{- '[/]\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '[model]' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think></think>' }}
    {%- endif %}
{%- endif %}
""",
    "the date, an optional system message, variables with defaults (as Llama 3.1)": r"""
{{- bos_token }}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not tools_first is defined %}
    {%- set tools_first = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2000" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system message goes to its own place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<h>system</h>\n\n" }}
{%- if tools is not none %}{{- "Tools: yes\n" }}{%- endif %}
{{- "Today: " + date_string + "\n\n" + system_message + "<e>" }}
{%- for message in messages %}
    {%- if not (message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<h>' + message['role'] + '</h>\n\n' + message['content'] | trim + '<e>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<h>assistant</h>\n\n' }}
{%- endif %}
""",
    "roles alternate, the system message goes into the first question (as Mistral, Gemma 2)": r"""
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- for message in loop_messages | rejectattr("role", "equalto", "tool") %}
    {%- if (message["role"] == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("Roles must alternate: " ~ loop.index0) }}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[I] " + system_message + "\n\n" + message["content"] + "[/I]" }}
        {%- else %}
            {{- "[I] " + message["content"] + "[/I]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] | trim + eos_token }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}
""",
    "content of several parts (as Gemma 3, Llama 4)": r"""
{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set prefix = messages[0]['content'] + '\n\n' -%}
    {%- else -%}
        {%- set prefix = messages[0]['content'][0]['text'] + '\n\n' -%}
    {%- endif -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set rest = messages -%}
{%- endif -%}
{%- for message in rest -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<turn>' + role + '\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '</turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<turn>model
'}}
{%- endif -%}
""",
    "a state over all messages, tools and their results (as DeepSeek-R1)": r"""
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<U>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is none %}{%- set ns.is_tool = false -%}{%- for tool in message['tool_calls']%}{%- if not ns.is_first %}{{'<A><calls>' + tool['type'] + '<sep>' + tool['function']['name'] + '\n' + '```json' + '\n' + (tool['function']['arguments'] | tojson) + '\n' + '```'}}{%- set ns.is_first = true -%}{%- endif %}{%- endfor %}{%- endif %}{%- if message['role'] == 'assistant' and message['content'] is not none %}{%- if ns.is_tool %}{{'<end>' + message['content']}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<A>' + content + '<end>'}}{%- endif %}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{%- if ns.is_output_first %}{{'<outputs>' + message['content'] + '<out>'}}{%- set ns.is_output_first = false %}{%- else %}{{'\n<out>' + message['content']}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<end>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<A><think>\n'}}{% endif %}
""",
    "documents, tools and controls (as Granite)": r"""
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = "Knowledge: April 2024.\nToday: " + strftime_now('%B %d, %Y') + "." %}
    {%- if tools and documents %}
        {%- set system_message = system_message + " Tools and documents." %}
    {%- elif tools %}
        {%- set system_message = system_message + " Tools." %}
    {%- elif documents %}
        {%- set system_message = system_message + " Documents." %}
    {%- elif thinking %}
        {%- set system_message = system_message + " Think." %}
    {%- endif %}
    {%- if controls and 'citations' in controls and documents %}
        {%- set system_message = system_message + '\n\nCite.' %}
    {%- endif %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '<r>system</r>' + system_message + '<e>\n' }}
{%- if tools %}
    {{- '<r>tools</r>' }}
    {{- tools | tojson(indent=4) }}
    {{- '<e>\n' }}
{%- endif %}
{%- if documents %}
    {{- '<r>documents</r>' }}
    {%- for document in documents %}
        {{- 'Document ' + loop.index0 | string + '\n' }}
        {{- document['text'] }}
        {%- if not loop.last %}
            {{- '\n\n'}}
        {%- endif%}
    {%- endfor %}
    {{- '<e>\n' }}
{%- endif %}
{%- for message in loop_messages %}
    {{- '<r>' + message['role'] + '</r>' + message['content'] + '<e>\n' }}
    {%- if loop.last and add_generation_prompt %}
        {{- '<r>assistant' }}
            {%- if controls %}
                {{- ' ' + controls | tojson()}}
            {%- endif %}
        {{- '</r>' }}
    {%- endif %}
{%- endfor %}
""",
    "an end of sequence after the last answer only (as OLMo 2, Zephyr)": r"""
{{ bos_token }}{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\n'  + message['content'] }}{% if not loop.last %}{{ '\n' }}{% else %}{{ eos_token }}{% endif %}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
""",
    "one line (as Phi-3, Phi-4, Yi)": r"""{% if messages[0]['role'] == 'system' %}{% set offset = 1 %}{% else %}{% set offset = 0 %}{% endif %}{% for message in messages %}{% if message['content'] %}{{'<|' + message['role'] + '|>' + '
' + message['content'] + '<|end|>
' }}{% endif %}{% endfor %}{% if add_generation_prompt and messages|length > offset %}{{ '<|assistant|>
' }}{%- else -%}{{ eos_token }}{% endif %}""",
    "macros for tools and their types (as Command-R, Hermes)": r"""
{%- macro type_of(spec) %}
{%- set names = {
    "string": "str",
    "number": "float",
    "integer": "int"
} %}
{%- if names[spec.type] is defined %}
    {{- names[spec.type] }}
{%- elif spec.type == "array" %}
    {{- "list[" + type_of(spec|items) + "]" }}
{%- elif spec.type is iterable and spec.type is not string %}
    {{- "Union[" }}
    {%- for one in spec.type %}
        {{- type_of({"type": one}) }}
        {%- if not loop.last %}{{- "," }}{%- endif %}
    {%- endfor %}
    {{- "]" }}
{%- else %}
    {{- "Any" }}
{%- endif %}
{%- endmacro %}
{{- bos_token }}
{%- if tools is iterable and tools | length > 0 %}
{%- for tool in tools %}
    {%- if tool.function is defined %}{%- set tool = tool.function %}{%- endif %}
    {{- '{"name": "' + tool.name + '", "description": "' }}
    {%- for name, fields in tool.parameters.properties | items %}
        {{- name + ": " + type_of(fields) }}
        {%- if not loop.last %}{{- ", " }}{%- endif %}
    {%- endfor %}
    {{- '", "parameters": ' }}{{- tool.parameters | tojson }}
    {%- if tool.parameters.required %}{{ " required: " ~ tool.parameters.required | join(", ") }}{%- endif %}
    {{- "}" }}
{%- endfor %}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "tool" and (loop.first or loop.previtem.role != "tool") %}{{- "<results>" }}{%- endif %}
    {%- if message.role == "tool" %}
        {{- "\n" ~ message.name ~ ": " ~ message.content }}
        {%- if loop.last or loop.nextitem.role != "tool" %}{{- "</results>" }}{%- endif %}
    {%- elif message.tool_calls %}
        {%- for call in message.tool_calls %}
            {{- "\n<call>" ~ call.function.name ~ "(" }}
            {%- for key, value in call.function.arguments.items() %}
                {{- key ~ "=" ~ (value | tojson) ~ ("" if loop.last else ", ") }}
            {%- endfor %}
            {{- ")</call>" }}
        {%- endfor %}
    {%- else %}
        {{- "\n" ~ message.role | upper ~ ": " ~ message.content }}
    {%- endif %}
{%- endfor %}
""",
    "the model's own part is marked (as SmolLM3, training templates)": r"""
{%- set today = strftime_now("%d %B %Y") -%}
{%- set mode = "/no_think" if enable_thinking is defined and not enable_thinking else "/think" -%}
{%- if messages[0].role == "system" -%}
  {%- if "/no_think" in messages[0].content -%}{%- set mode = "/no_think" -%}{%- endif -%}
  {%- set instructions = messages[0].content.replace("/no_think", "").replace("/think", "").rstrip() -%}
{%- endif -%}
{{- "system\n## Date: " ~ today ~ "\nMode: " ~ mode ~ "\n" -}}
{{- instructions + "\n" if instructions else "Help.\n" -}}
{%- for message in messages -%}
  {%- set content = message.content if message.content is string else "" -%}
  {%- if message.role == "user" -%}
    {{ "user\n" + content + "\n" }}
  {%- elif message.role == "assistant" -%}
    {% generation %}
    {%- if mode == "/think" -%}
      {{ "model\n" + content.lstrip("\n") + "\n" }}
    {%- else -%}
      {{ "model\n" + "<think>\n\n</think>\n" + content.lstrip("\n") + "\n" }}
    {%- endif -%}
    {% endgeneration %}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{ "model\n" }}{%- if mode == "/no_think" %}{{ "<think>\n\n</think>\n" }}{%- endif -%}
{%- endif -%}
""",
}

MORE = [
    chat(S([{"type": "text", "text": "Be brief."}]), PARTS),
    chat(U("1 + 2?"), CALL, RESULT, RESULT, tools=TOOLS),
    chat(U("1 + 2?"), CALL, RESULT, A("3"), U("Sure?"), custom_tools=TOOLS, date_string="1 Jan 2000"),
    chat(U("Sum?"), tools=TOOLS, documents=[{"title": "t", "text": "one"}, {"title": "u", "text": "two"}], controls=["citations"]),
    chat(U("Sum?"), documents=[{"text": "one"}], controls={"length": "short", "originality": "extractive"}, thinking=True),
]

# One construct or a few of a kind a line; `m` is the last message's content.
SET = "{% set m = messages[-1].content %}"
PIECES = {
    "truth and nothing": "{{ true }} {{ False }} {{ none }} {{ None }} {{ True ~ none }} {{ [true, none, 'a'] }} {{ {'a': false} }}",
    "numbers": "{{ 1 }} {{ 1.0 }} {{ 7 / 2 }} {{ 8 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 0.1 + 0.2 }} {{ 1e3 }} {{ 10 - 3 - 2 }}",
    "comparisons": "{{ 1 < 2 < 3 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ not 1 > 2 }} {{ 1 != 2 }} {{ 'a' in 'abc' }} {{ 'a' not in ['b'] }} {{ 'k' in {'k': 1} }}",
    "and, or, if": "{{ none or 'x' }} {{ '' or 0 }} {{ 1 and 2 }} {{ 'a' if false }}|{{ 'a' if m else 'b' }} {{ not m }}",
    "joining": "{{ 'a' + 'b' ~ 1 ~ 2.5 ~ none }} {{ 'ab' * 3 }} {{ [1] + [2, 3] }} {{ [0] * 3 }} {{ 'a' 'b' }} {{ ('x', 1) }}",
    "slices": "{{ m[::-1] }} {{ m[1:] }} {{ m[:-1] }} {{ m[-2:] }} {{ m[::2] }} {{ m[100:] }} {{ [1, 2, 3][::-1] }} {{ [1, 2, 3][-1] }} {{ [1, 2, 3][0:2] }}",
    "missing things": "{{ nothing }}|{{ messages[0].nothing }}|{{ messages[99] }}|{{ nothing is defined }}|{{ nothing | length }}|{{ 'a' in nothing }}|{% for x in nothing %}x{% endfor %}|{{ nothing | trim }}|{{ nothing | list }}",
    "missing of missing": "{{ nothing.more }}",
    "adding the missing": "{{ 'a' + nothing }}",
    "a none has no attributes": "{{ none.x }}|",
    "wrong types": "{{ 'a' + 1 }}",
    "tests": "{{ m is string }} {{ m is sequence }} {{ m is iterable }} {{ m is mapping }} {{ messages is sequence }} {{ messages[0] is mapping }} {{ messages[0] is sequence }} {{ messages[0] is iterable }} {{ 1 is iterable }} {{ none is none }} {{ 1 is number }} {{ true is number }} {{ true is integer }} {{ 1 is integer }} {{ 1.5 is float }} {{ true is boolean }} {{ true is true }} {{ 1 is true }} {{ false is false }} {{ nothing is undefined }} {{ nothing is none }} {{ nothing is iterable }} {{ nothing is sequence }} {{ raise_exception is callable }} {{ m is callable }} {{ 3 is odd }} {{ 3 is even }} {{ 9 is divisibleby 3 }} {{ 'a' is eq 'a' }} {{ 1 is in [1] }} {{ 'a' is lower }} {{ 'A' is upper }} {{ 2 is gt 1 }} {{ 1 is sameas 1 }}",
    "strip": "[{{ m.strip() }}][{{ m.lstrip() }}][{{ m.rstrip() }}][{{ m.strip('? \n') }}][{{ m | trim }}][{{ '--a-'.strip('-') }}][{{ 'xxaxx' | trim('x') }}][{{ '\x1c a\x1f' | trim }}][{{ '\x1da '.strip() }}]",
    "split": "{{ m.split() }} {{ m.split(' ') }} {{ m.split(' ', 1) }} {{ 'a,b,c'.split(',', maxsplit=1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b  c '.rsplit(none, 1) }} {{ ' a b  c '.split(none, 1) }} {{ ''.split() }} {{ ''.split(',') }} {{ 'a--b'.split('--')[-1] }}",
    "lines": "{{ 'a\nb\r\nc\n'.splitlines() }} {{ 'a\nb\r\n'.splitlines(true) }} {{ '\n'.splitlines() }} {{ ''.splitlines() }}",
    "an empty separator": "{{ m.split('') }}",
    "partition": "{{ 'a=b=c'.partition('=')[2] }} {{ 'a=b=c'.rpartition('=')[0] }} {{ 'abc'.partition('=')[0] }} {{ 'abc'.rpartition('=')[2] }} {{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ 'abc'.removesuffix('x') }}",
    "case": "{{ m.upper() }} {{ m.lower() }} {{ m.title() }} {{ \"it's they're o'neil 3rd\".title() }} {{ m.capitalize() }} {{ 'aBc'.swapcase() }} {{ m | upper }} {{ m | lower }} {{ \"it's a-b\" | title }} {{ 'aBC' | capitalize }} {{ 'Straße'.casefold() if false else '' }}",
    "replace": "{{ m.replace('a', 'b') }} {{ 'aaa'.replace('a', 'b', 2) }} {{ m | replace('?', '!') }} {{ 'ab'.replace('', '-') }} {{ 'aaa' | replace('a', 'b', 1) }}",
    "beginnings and ends": "{{ m.startswith('W') }} {{ m.endswith('?') }} {{ m.endswith(('?', '!')) }} {{ m.startswith('') }} {{ m.find('o') }} {{ m.find('zz') }} {{ m.rfind('o') }} {{ m.count('o') }} {{ 'abc'.index('c') }}",
    "kinds of characters": "{{ '12'.isdigit() }} {{ 'ab'.isalpha() }} {{ 'a1'.isalnum() }} {{ ' '.isspace() }} {{ 'A'.isupper() }} {{ 'a'.islower() }} {{ ''.isdigit() }} {{ '1.5'.isnumeric() }} {{ '12'.isdecimal() }}",
    "fields": "[{{ 'ab'.ljust(5) }}][{{ 'ab'.rjust(5, '.') }}][{{ 'ab'.center(5, '*') }}][{{ 'abc'.center(6, '*') }}][{{ '-42'.zfill(6) }}][{{ 'ab' | center(7) }}]",
    "formats": "{{ '{} and {}'.format(1, 'x') }} {{ '{0}{1}{0}'.format('a', 'b') }} {{ '{a:>5}|{b:.2f}'.format(a='x', b=3.14159) }} {{ '%s: %d' | format('a', 3) }} {{ '%05.1f' | format(3.14159) }}",
    "join": "{{ ['a', 'b'] | join(', ') }} {{ ', '.join(['a', 'b']) }} {{ [1, 2.0, none, true] | join('-') }} {{ messages | join('; ', attribute='role') }} {{ [1, 2] | join }} {{ 'abc' | join('.') }}",
    "lists": "{{ 'abc' | list }} {{ [3, 1, 2] | sort }} {{ [3, 1, 2] | sort(reverse=true) }} {{ [1, 1, 2] | unique | list }} {{ [1, 2, 3] | reverse | list }} {{ [1, 2] | first }} {{ [1, 2] | last }} {{ [] | first }}| {{ [1, 2] | sum }} {{ [1, 3, 2] | max }} {{ [1, 3] | min }} {{ [1, 2].index(2) }} {{ [1, 1].count(1) }} {{ [1, 2, 3] | batch(2) | list }} {{ 'abc' | reverse }} {{ [1, 2] | length }} {{ [1, 2] | count }}",
    "a list cannot be changed": "{% set l = [1] %}{{ l.append(2) }}{{ l }}",
    "a dict cannot be changed": "{% set d = {'a': 1} %}{{ d.update({'b': 2}) }}{{ d }}",
    "selecting": "{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'ne', 'user') | map(attribute='content') | list }} {{ [1, 2, 3, 4] | select('odd') | list }} {{ [0, 1, none] | reject('none') | list }} {{ [0, 1] | select | list }} {{ ['a', 'b'] | map('upper') | join }} {{ messages | map(attribute='role') | unique | list }} {{ messages | selectattr('role', 'in', ['system', 'user']) | map(attribute='role') | first }} {{ messages | groupby('role') | length }} {{ [{'a': 1}, {}] | map(attribute='a', default=0) | list }} {{ messages | selectattr('tool_calls', 'defined') | list }}",
    "dicts": "{% set d = {'b': 1, 'a': {'c': [1]}} %}{{ d }} {{ d.b }} {{ d['a'].c[0] }} {{ d.keys() | list }} {{ d.values() | list }} {% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %} {% for k in d %}{{ k }}{% endfor %} {{ d | length }} {{ d.get('z') }} {{ d.get('z', 0) }} {{ d | dictsort }} {{ d | items | list }} {{ dict(x=1, y='z') }} {{ dict(d, b=2).b }}",
    "json": "{{ messages | tojson }} {{ '<a href=\"x\">&\\'é</a>' | tojson }} {{ [1.0, 1e20, 1.5e-7, 100, -0.0, true, none] | tojson }} {{ {} | tojson }} {{ [] | tojson }}",
    "json over lines": "{{ messages | tojson(indent=2) }}{{ {'a': [], 'b': {}, 'c': [1, {'d': 2}]} | tojson(indent=4) }}",
    "json with options": "{{ {'b': 1, 'a': {'z': 1, 'y': [2, 3]}} | tojson(sort_keys=true) }} {{ {'b': [1, 2]} | tojson(separators=(',', ':')) }} {{ 'é🙂' | tojson(ensure_ascii=true) }} {{ 'é' | tojson(ensure_ascii=False) }}",
    "json of nothing": "{{ nothing | tojson }}",
    "defaults": "{{ nothing | default('x') }} {{ none | default('x') }} {{ '' | default('x', true) }} {{ nothing | d }}| {{ '' | default('x', boolean=true) }} {{ nothing | default(default_value='y') }} {{ messages[0].name | default('anon') }}",
    "to numbers": "{{ '42' | int + 1 }} {{ 'x' | int }} {{ 'x' | int(7) }} {{ 3.9 | int }} {{ '2.5' | float }} {{ 'y' | float }} {{ 2.567 | round(1) }} {{ 2.5 | round }} {{ 3 | string ~ 'a' }} {{ -3 | abs }} {{ '0x1F' | int(base=16) }} {{ ' 5 ' | int }} {{ none | int(1) }}",
    "other filters": "{{ 'a b_c d' | wordcount }} {{ 'one two three' | truncate(9) }} {{ 'a\nb' | indent(2) }} {{ 'a\nb' | indent(2, true) }} {{ 'a\n\nb' | indent(width=1, first=true, blank=true) }} {{ '<b>' | e }} {{ '<b>' | escape }} {{ '<b>' | safe }} {{ '<p>x</p>' | striptags }} {{ messages[0] | attr('nothing') }}|",
    "a filter block": "{% filter upper %}abc {{ m }}{% endfilter %}{% filter trim | indent(2) %} a\nb {% endfilter %}",
    "set": "{% set x = 1 %}{% set y, z = 2, 3 %}{% set block %}[{{ x }}{{ y }}]{% endset %}{% set up | upper %}ab{% endset %}{{ block }}{{ z }}{{ up }}{{ block | length }}",
    "scopes": "{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 9 %}{% endif %}{{ x }}{% with x = 5, y = 6 %}{{ x }}{{ y }}{% endwith %}{{ x }}{{ y }}",
    "namespace": "{% set ns = namespace(n=0, found=false, list=[]) %}{% for message in messages %}{% set ns.n = ns.n + loop.index %}{% set ns.list = ns.list + [message.role] %}{% if message.role == 'system' %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.n }} {{ ns.found }} {{ ns.list }}{% set ns.new = 1 %}{{ ns.new }}{{ ns.nothing }}",
    "loops": "{% for i in range(5) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.length }}{{ loop.first }}{{ loop.last }};{% else %}none{% endfor %}{% for i in [] %}{% else %}none{% endfor %}",
    "neighbours": "{% for message in messages %}{{ loop.previtem.role if loop.previtem is defined else '-' }}>{{ message.role }}>{{ loop.nextitem.role if not loop.last else '-' }};{{ loop.changed(message.role) }}{{ loop.cycle('a', 'b') }}{{ loop.depth }}{% endfor %}",
    "loops with conditions": "{% for message in messages if message.role != 'system' %}{{ loop.index }}{{ message.role }}{{ loop.last }} {% endfor %}{% for a, b in [(1, 2), (3, 4)] %}{{ a + b }}{% endfor %}{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor %}{% for c in 'héy' %}{{ c }}.{% endfor %}{% for i in range(2, 8, 3) %}{{ i }}{% endfor %}",
    "macros": "{% macro show(role, content='?', end=none) -%}\n<{{ role }}>{{ content | trim }}{% if end %}{{ end }}{% endif %}\n{%- endmacro %}{{ show('user') }}{{ show('user', ' x ', end='.') }}{{ show(content='c', role='r') }}{% set got = show('a') %}{{ got | length }}{% macro wrap(tag) %}<{{ tag }}>{{ caller() }}</{{ tag }}>{% endmacro %}{% call wrap('b') %}in{% endcall %}{{ show.name }}{% macro fact(n) %}{{ 1 if n <= 1 else n * fact(n - 1) | int }}{% endmacro %}{{ fact(5) }}",
    "comments and raw": "a{# no #}b {#- no -#} c{% raw %}{{ x }}{% endraw %}\n{# a line #}\nd\n  {# indented #}\ne",
    "white space": "a\n  {% if true %}\n  b\n  {% endif %}\nc\n  {%- if true -%}\n  d\n  {%- endif %}\n e {%+ if true %}f{% endif +%}\n\t{% set x = 1 %}\n{{ x }}\n  {{- x }}\n  {{ x -}}\n  g\n{% for i in [1, 2] %}\n  {{ i }}\n{% endfor %}\nend\n\n",
    "escapes": "{{ 'a\\nb\\t\\'\\\"\\\\ \\u00e9 \\x41' }} {{ \"it's\" }} {{ '{{' }} {{ '%}' }}",
    "generation": "a\n{% generation %}\n b\n{% endgeneration %}\nc{%- generation -%} d {%- endgeneration -%} e{% generation %}{% set x = 1 %}{% endgeneration %}{{ x }}{{ '{% no generation %}' }}",
    "refusing": "{% if messages | length > 1 %}{{ raise_exception('too long') }}{% endif %}ok",
    "the day": "{{ strftime_now('%Y-%m-%d %d %B %Y %b %a %A %j %y %m %% %H:%M') }}",
    "globals": "{{ range(3) | list }} {{ namespace(a=1).a }} {{ dict(a=1).a }}",
    "variables": "{{ enable_thinking is defined }} {{ tools is none }} {{ documents is none }} {{ add_generation_prompt }} {{ bos_token }} {{ messages | length }} {{ custom is mapping and custom.depth }}",
    "reasoning": "{% for message in messages %}{{ message.reasoning_content }}|{{ message.thinking }}|{{ 'content' in message }}|{{ message.content is none }};{% endfor %}",
    "conditions": "{% if m is string and m | length > 3 and not (m == 'x' or messages | length > 9) %}long{% elif m %}short{% else %}empty{% endif %}{{ ('a' if m == 'a' else 'b' if m == 'b' else 'c') }}",
    "an unknown filter": "{{ m | nothing_of_the_kind }}",
    "an unknown method": "{{ m.nothing_of_the_kind() }}",
    "an unclosed block": "{% if m %}x",
}
SHORT = [
    chat(U("What? O no")),
    chat(S("Be."), U(" A b\n"), {"role": "assistant", "content": None, "reasoning": "hm"}, U("Hé o ?"), custom={"depth": 3}, enable_thinking=False),
]


def render(template, case):
    messages = hf._normalize_chat_messages(case["messages"])
    try:
        rendered, _ = hf.render_jinja_template(
            [messages], chat_template=template, add_generation_prompt=True,
            **{"tools": None, "documents": None, **TOKENS, **case["variables"]},
        )
        return rendered[0]
    except Exception as error:
        return None if "object at 0x" not in str(error) else exit(f"{template}: {error}")


cases = []
for name, template in FAMILIES.items():
    chats = [dict(case, text=render(template, case)) for case in PLAIN + REFUSED + MORE]
    cases.append({"name": name, "template": template.split("\n"), "chats": chats})
for name, piece in PIECES.items():
    template = SET + piece
    cases.append({"name": name, "template": template.split("\n"), "chats": [dict(case, text=render(template, case)) for case in SHORT]})

refused = sum(case["text"] is None for one in cases for case in one["chats"])
total = sum(len(one["chats"]) for one in cases)
lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in cases)
path = HERE / "templates.json"
path.write_text('{"about": "made by make_templates.py", "cases": [\n' + lines + "\n]}\n")
print(f"{len(cases)} templates, {total} chats, {refused} refused, {path.stat().st_size} bytes")
for one in cases:
    if all(case["text"] is None for case in one["chats"]):
        print("all refused:", one["name"])
