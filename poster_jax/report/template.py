"""The page's HTML and its style: one column, system fonts, light or dark as the reader's system is, light on paper."""

TEMPLATE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ title }}</title>
<style>
:root { --ink: {{ light.foreground }}; --ground: {{ light.background }}; --line: {{ light.grid }}; --quiet: #55606c; }
body { color: var(--ink); background: var(--ground); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 62rem; \
padding: 1rem 1.2rem 4rem; }
h1 { line-height: 1.2; } h2 { margin-top: 3rem; border-bottom: 2px solid var(--line); }
nav ul { padding-left: 1.2rem; } a { color: inherit; }
figure { margin: 1.5rem 0; } figure img { max-width: 100%; height: auto; } .dark { display: none; }
figcaption, caption, .quiet { color: var(--quiet); font-size: .9rem; text-align: left; }
.wide { overflow-x: auto; margin: 1.5rem 0; } pre { font-size: .8rem; }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums; } caption { padding-bottom: .4rem; }
caption span { display: block; position: sticky; left: 0; max-width: min(62rem, calc(100vw - 3rem)); }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
td { white-space: nowrap; } tbody th { font-weight: 600; } .text { white-space: normal; min-width: 8.5rem; }
@media (prefers-color-scheme: dark) {
  :root { --ink: {{ dark.foreground }}; --ground: {{ dark.background }}; --line: {{ dark.grid }}; --quiet: #a5afba; }
  .light { display: none; } .dark { display: inline; }
}
@media print {
  :root { --ink: #000; --ground: #fff; --line: #ccc; --quiet: #333; }
  body { max-width: none; font-size: 10pt; padding: 0; } nav { display: none; }
  .light { display: inline; } .dark { display: none; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; } .wide { overflow: visible; } table { font-size: 6.5pt; }
  figcaption, caption, .quiet { font-size: 8pt; } caption span { max-width: none; }
  th, td { padding: .1rem .25rem; white-space: normal; }
}
</style>
</head>
<body>
{%- macro show_table(table) %}
<div class="wide"><table>
<caption><span>{{ table.caption }}</span></caption>
<thead><tr>{% for cell in table.header %}<th scope="col">\
{{ cell|replace("_", "_<wbr>"|safe)|replace("@", "<wbr>@"|safe) }}</th>{% endfor %}</tr></thead>
<tbody>
{%- for row in table.rows %}
<tr><th scope="row"{% if row[0]|length > 30 %} class="text"{% endif %}>{{ row[0] }}</th>{% for cell in row[1:] %}\
<td{% if cell|length > 30 %} class="text"{% endif %}>{{ cell }}</td>{% endfor %}</tr>
{%- endfor %}
</tbody></table></div>
{%- endmacro %}
{%- macro show_figure(shown) %}
<figure>
<img class="light" src="{{ shown.light }}" alt="{{ shown.caption }}">
<img class="dark" src="{{ shown.dark }}" alt="{{ shown.caption }}">
<figcaption>{{ shown.caption }}</figcaption>
</figure>
{%- endmacro %}
<h1>{{ title }}</h1>
<p>{{ intro }}</p>
<nav><ul>
{%- for section in sections %}
<li><a href="#{{ section.anchor }}">{{ section.title }}</a></li>
{%- endfor %}
</ul></nav>
{%- for section in sections %}
<section>
<h2 id="{{ section.anchor }}">{{ section.title }}</h2>
{%- for item in section.items %}
{%- if item.header is defined %}{{ show_table(item) }}
{%- elif item.light is defined %}{{ show_figure(item) }}
{%- elif item.plain is defined %}
<pre class="wide">{{ item.plain }}</pre>
{%- else %}
<p>{{ item }}</p>
{%- endif %}
{%- endfor %}
</section>
{%- endfor %}
</body>
</html>
"""
