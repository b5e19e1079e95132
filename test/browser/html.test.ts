import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { until } from '../harness.ts';
import { type Browser, except, launch, type Page, puppeteerOf } from './engine.ts';

declare global {
  /** What the bundle of client/html.ts defines in each page and frame. */
  var merger: typeof import('../../client/html.ts');
}

const bundle = await build({
  entryPoints: [fileURLToPath(new URL('../../client/html.ts', import.meta.url))],
  bundle: true,
  write: false,
  format: 'iife',
  globalName: 'merger',
});
const script = bundle.outputFiles[0]?.text ?? '';

/** Serves the sources and files it is given; what is missing is 404. */
async function stage(browser: Browser) {
  const files = new Map<string, { type: string; body: string | Buffer }>();
  const server = createServer((req, res) => {
    const file = files.get(req.url?.replace(/\?.*/, '') ?? '');
    res.writeHead(file ? 200 : 404, {
      'content-type': file?.type ?? 'text/plain',
      'cache-control': 'no-cache',
    });
    res.end(file?.body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const page = await browser.newPage();
  return {
    files,
    origin,
    /** The page, made of this source, with the module in it. */
    async open(source: string): Promise<Page> {
      files.set('/', { type: 'text/html; charset=utf-8', body: source });
      await page.goto(origin);
      await page.evaluate(`globalThis.merger = (() => { ${script}; return merger; })()`);
      return page;
    },
    async [Symbol.asyncDispose]() {
      await page.close();
      server.closeAllConnections();
      server.close();
    },
  };
}

const merge = (page: Page, from: string, to: string) =>
  page.evaluate((a, b) => merger.mergeHtml(a, b), from, to);

/** A whole document with this body. */
const html = (body: string, head = '') =>
  `<!doctype html>\n<html lang="en">\n<head>\n<title>T</title>${head}\n</head>\n<body>\n${body}\n</body>\n</html>\n`;

const browser = await launch();
const site = await stage(browser);
test.after(async () => {
  await site[Symbol.asyncDispose]();
  await browser[Symbol.asyncDispose]();
});

// One row: what it is about, the old body, the new body; merged, the document is that of a fresh load.
const MERGED: readonly (readonly [name: string, from: string, to: string])[] = [
  ['a text', '<p>one</p>', '<p>two</p>'],
  ['an attribute', '<p title=a>x</p>', '<p title=b lang=de>x</p>'],
  ['an attribute that goes', '<p title=a hidden>x</p>', '<p>x</p>'],
  ['an attribute of an odd name', '<p @a=1 :b=2>x</p>', '<p @a=2 [c]=3>x</p>'],
  ['an attribute with a namespace', '<svg><use xlink:href="#a"/></svg>', '<svg><use xlink:href="#b"/></svg>'],
  ['classes', '<p class="a b">x</p>', '<p class="c a">x</p>'],
  ['an added element', '<p>one</p>', '<p>one</p>\n<p id=x>two <b>three</b></p>'],
  ['an added element in front', '<p>one</p>', '<section><h2>zero</h2></section><p>one</p>'],
  ['a first child', '<ul></ul>', '<ul><li>one</ul>'],
  ['a removed element', '<p>one</p><hr><p>two</p>', '<p>one</p><p>two</p>'],
  ['an only child that goes', '<div><p>one</p></div>', '<div></div>'],
  ['moved elements', '<p>1</p><p>2</p><p>3</p>', '<p>3</p><p>1</p><p>2</p>'],
  [
    'a wrapped element',
    '<p>1</p><form><input name=a></form>',
    '<p>1</p><div><form><input name=a></form></div>',
  ],
  ['an unwrapped element', '<div><form><input name=a></form></div>', '<form><input name=a></form>'],
  ['another element in its place', '<h2>one</h2>', '<h3>one</h3>'],
  ['comments', '<!-- a --><p>1</p>', '<p>1</p><!-- b -->'],
  [
    'an SVG',
    '<svg viewBox="0 0 1 1"><path d="M0 0"/></svg>',
    '<svg viewBox="0 0 2 2"><g><path d="M0 1"/></g></svg>',
  ],
  [
    'line ends of Windows',
    '<p>one</p>\r\n<p>two\r\nlines</p>',
    '<p>one</p>\r\n<p>2</p>\r\n<p>three\r\nlines</p>',
  ],
  ['line ends that change', '<p>one</p>\r\n<p>two</p>', '<p>one</p>\n<p>2</p>'],
  ['a table', '<table><tr><td>1</table>', '<table><tr><td>1<td>2<tr><td>3</table>'],
  [
    'a select',
    '<select><option>1<option>2</select>',
    '<select><option>0<option selected>1<option>2</select>',
  ],
];

for (const [name, from, to] of MERGED) {
  test(`mergeHtml() of ${name} gives what a fresh load gives`, async () => {
    const page = await site.open(html(from));
    assert.is(await merge(page, html(from), html(to)), true);
    const merged = await page.content();
    const fresh = await site.open(html(to));
    assert.is(merged, await fresh.content());
  });
}

const MERGED_HEADS: readonly (readonly [name: string, from: string, to: string])[] = [
  ['the title', '<title>a</title>', '<title>b</title>'],
  [
    'metadata',
    '<meta name=theme-color content=red>',
    '<meta name=theme-color content=blue><meta name=author content=x>',
  ],
  [
    'an inline sheet',
    '<style>p { color: red }</style>',
    '<style>p { color: blue }</style><style>b { color: red }</style>',
  ],
];

for (const [name, from, to] of MERGED_HEADS) {
  test(`mergeHtml() of ${name} gives what a fresh load gives, on a page with scripts too`, async () => {
    for (const tail of ['', '<script>var x</script>']) {
      const [before, after] = [html('<p>x</p>', from + tail), html('<p>x</p>', to + tail)];
      const page = await site.open(before);
      assert.is(await merge(page, before, after), true);
      const merged = await page.content();
      await site.open(after);
      assert.is(merged, await page.content());
    }
  });
}

// One row: what it is about, the old document, the new one, and what happens in the page in between. Left to a reload.
const REFUSED: readonly (readonly [name: string, from: string, to: string, live?: string])[] = [
  ['a script', html('<script>1</script>'), html('<script>2</script>')],
  ['the file of a script', html('<script src=a></script>'), html('<script src=b></script>')],
  ['a script that comes', html('<p>x</p>'), html('<p>x</p><script>2</script>')],
  ['a script that is moved', html('<p>x</p><script>1</script>'), html('<script>1</script><p>x</p>')],
  [
    'data for a script',
    html('<script type="application/json">1</script>'),
    html('<script type="application/json">2</script>'),
  ],
  ['a template', html('<template><p>x</p></template>'), html('<template><p>y</p></template>')],
  ['a noscript', html('<noscript><p>x</p></noscript>'), html('<noscript><p>y</p></noscript>')],
  ['the base', html('', '<base href="/a/">'), html('', '<base href="/b/">')],
  [
    'a refresh',
    html('', '<meta http-equiv=refresh content=9>'),
    html('', '<meta http-equiv=refresh content=8>'),
  ],
  ['the doctype', html('<p>x</p>'), html('<p>x</p>').replace('<!doctype html>', '')],
  ['a custom element', html('<x-y>1</x-y>'), html('<x-y>2</x-y>')],
  ['a handler', html('<p onclick="a">x</p>'), html('<p onclick="b">x</p>')],
  ['a nonce', html('<p nonce=a>x</p>'), html('<p nonce=b>x</p>')],
  ['the sources of a video', html('<video><source src=a></video>'), html('<video><source src=b></video>')],
  ['a frame', html('<iframe src="about:blank"></iframe>'), html('<iframe src="about:blank#a"></iframe>')],
  [
    'a text that a script changed',
    html('<p>x</p>'),
    html('<p>y</p>'),
    'document.querySelector("p").textContent = "z"',
  ],
  [
    'an attribute that a script changed',
    html('<p title=x></p>'),
    html('<p title=y></p>'),
    'document.querySelector("p").title = "z"',
  ],
  [
    'an element that is gone',
    html('<i>1</i><p>x</p>'),
    html('<i>1</i><p>y</p>'),
    'document.querySelector("p").remove()',
  ],
  [
    'children of a script',
    html('<ul></ul>'),
    html('<ul><li>x</ul>'),
    'document.querySelector("ul").innerHTML = "<li>z"',
  ],
  [
    'one of many alike',
    html('<p>x</p>'),
    html('<p>y</p>'),
    'document.querySelector("p").after(document.querySelector("p").cloneNode(true))',
  ],
  [
    'a sheet with rules of a script',
    html('<style>p{color:red}</style>'),
    html('<style>p{color:blue}</style>'),
    'document.querySelector("style").sheet.insertRule("b{color:red}")',
  ],
];

for (const [name, from, to, live = ''] of REFUSED) {
  test(`mergeHtml() of ${name} changes nothing and asks for a reload`, async () => {
    const page = await site.open(from);
    await page.evaluate(live);
    const before = await page.content();
    // The paragraph at the end could be merged.
    assert.is(
      await merge(page, from.replace('</body>', '<p>1</p></body>'), to.replace('</body>', '<p>2</p></body>')),
      false,
    );
    assert.is(await merge(page, from, to), false);
    assert.is(await page.content(), before);
  });
}

// What a script could care for, on a page that has one
const SCRIPTED: readonly (readonly [name: string, from: string, to: string, merged: boolean])[] = [
  ['a text', '<p>1</p>', '<p>2</p>', true],
  ['classes', '<p class=a>1</p>', '<p class=b>1</p>', true],
  ['a paragraph', '<p>1</p>', '<p>1</p>\n<p>2 <b>3</b></p>', true],
  ['moved paragraphs', '<p>1</p><p>2</p>', '<p>2</p><p>1</p>', true],
  ['a removed element', '<p>1</p><a href=x>x</a>', '<p>1</p>', true],
  ['a button', '<p>1</p>', '<p>1</p><button>2</button>', false],
  ['a paragraph with a class', '<p>1</p>', '<p>1</p><p class=x>2</p>', false],
  ['a moved button', '<p>1</p><button>2</button>', '<button>2</button><p>1</p>', false],
  ['a paragraph of a kind that a script has marked', '<q>1</q>', '<q>1</q><q>2</q>', false],
  ['a removed element that a script has marked', '<p>1</p><q>1</q>', '<p>1</p>', false],
  ['data', '<p data-x=1>1</p>', '<p data-x=2>1</p>', false],
];

for (const [name, from, to, merged] of SCRIPTED) {
  test(`mergeHtml() of ${name} on a page with scripts is ${merged ? 'done' : 'left to a reload'}`, async () => {
    const script = '<script>document.querySelectorAll("q").forEach((q) => q.classList.add("made"))</script>';
    const page = await site.open(html(from + script));
    assert.is(await merge(page, html(from + script), html(to + script)), merged);
    if (!merged) return;
    const now = await page.content();
    await site.open(html(to + script));
    assert.is(now, await page.content());
  });
}

test('mergeHtml() leaves what scripts have built', async () => {
  const body = (text: string, name: string) =>
    `<ul class="list"></ul><p class="${name}">${text}</p><div id=app></div><script>
    const add = (parent, text) => parent.appendChild(document.createElement('li')).append(text);
    add(document.querySelector('ul'), 'made');
    document.querySelector('p').classList.add('made');
    document.querySelector('p').dataset.made = '1';
    document.querySelector('#app').textContent = 'made';
    document.body.prepend(document.createElement('nav'));
    document.body.append(document.createElement('p'));
    </script>`;
  const page = await site.open(html(body('one', 'a b')));
  assert.is(await merge(page, html(body('one', 'a b')), html(body('two', 'b c'))), true);
  assert.equal(
    await page.evaluate(() =>
      [...document.body.children].filter((e) => e.tagName !== 'SCRIPT').map((e) => e.outerHTML),
    ),
    [
      '<nav></nav>',
      '<ul class="list"><li>made</li></ul>',
      '<p class="b made c" data-made="1">two</p>',
      '<div id="app">made</div>',
      '<p></p>',
    ],
  );
});

test('mergeHtml() adds between what scripts have put first and last', async () => {
  const source = (main: string) =>
    html(`<main>${main}</main><script>{
      const main = document.querySelector('main');
      main.append(document.createElement('i'));
      main.prepend(document.createElement('i'));
    }</script>`);
  const [from, to] = [source('<p>1</p>'), source('<p>0</p><p>1</p><p>2</p><p>3</p>')];
  const page = await site.open(from);
  assert.is(await merge(page, from, to), true);
  const merged = await page.content();
  await site.open(to);
  assert.is(merged, await page.content());
});

test('mergeHtml() takes no notice of the tag of the server', async () => {
  const tag = (id: string) =>
    `<script async src="../__events/client.js" data-id="${id}" data-file="/index.html"></script>`;
  const source = (id: string, text: string) =>
    html(`<p>${text}</p>`).replace('<head>', `<head>${id && tag(id)}`);
  for (const [from, to] of [
    ['a-1', 'a-2'],
    ['', ''],
    ['a-1', ''],
  ] as const) {
    const page = await site.open(source('a-1', 'one'));
    assert.is(await merge(page, source(from, 'one'), source(to, 'two')), true);
    assert.is(await page.$eval('p', (p) => p.textContent), 'two');
    assert.is(await page.$eval('script', (script) => script.dataset.id), 'a-1');
  }
});

test('mergeHtml() knows a file that was swapped in place by its address in the source', async () => {
  const source = (text: string, name: string) => html(`<img alt="${text}" src="${name}.png?a=1">`);
  const page = await site.open(source('one', 'a'));
  await page.$eval('img', (img) => img.setAttribute('src', 'a.png?a=1&live-sse=mi7c2k-42'));
  assert.is(await merge(page, source('one', 'a'), source('two', 'a')), true);
  assert.is(
    await page.$eval('img', (img) => img.outerHTML),
    '<img alt="two" src="a.png?a=1&amp;live-sse=mi7c2k-42">',
  );
  assert.is(await merge(page, source('two', 'a'), source('two', 'b')), true);
  assert.is(await page.$eval('img', (img) => img.outerHTML), '<img alt="two" src="b.png?a=1">');
});

test('mergeHtml() keeps the old stylesheet until the new one has come', async () => {
  site.files.set('/red.css', { type: 'text/css', body: 'p { color: rgb(255, 0, 0) }' });
  site.files.set('/blue.css', { type: 'text/css', body: 'p { color: rgb(0, 0, 255) }' });
  const source = (name: string) => html('<p>x</p>', `<link rel=stylesheet href=/${name}.css>`);
  const page = await site.open(source('red'));
  const colors = await page.evaluate(
    async (from, to) => {
      const color = () => getComputedStyle(document.querySelector('p') ?? document.body).color;
      const seen = new Set([color()]);
      if (!merger.mergeHtml(from, to)) return [];
      // Another edit while the new one is on its way
      if (!merger.mergeHtml(to, to.replace('>x<', '>y<'))) return [];
      while (document.querySelectorAll('link').length > 1) {
        seen.add(color());
        await new Promise(requestAnimationFrame);
      }
      return [...seen, color()];
    },
    source('red'),
    source('blue'),
  );
  assert.equal(colors.slice(-1), ['rgb(0, 0, 255)']);
  assert.ok(colors.every((color) => color !== 'rgb(0, 0, 0)'));
  assert.is(await page.$eval('link', (link) => link.getAttribute('href')), '/blue.css');
});

test('mergeHtml() of an edit in one of thousands of elements is done', async () => {
  const list = (...texts: string[]) =>
    html([...texts, ...Array(4000).fill('same')].map((it) => `<p>${it}</p>`).join('\n'));
  const page = await site.open(list('one', 'two'));
  for (const [from, to] of [
    [list('one', 'two'), list('1', 'two')],
    [list('1', 'two'), list('1', 'two', 'three')],
  ] as const) {
    assert.is(await merge(page, from, to), true);
    assert.is(
      await page.evaluate(() => document.body.innerHTML.trim()),
      /<body>\n(.*)\n<\/body>/s.exec(to)?.[1],
    );
  }
});

test('mergeHtml() while the document is parsed is left to a reload', async () => {
  site.files.set('/merger.js', { type: 'text/javascript', body: script });
  const run = '<script src=merger.js></script><script>done = merger.mergeHtml("<p>x", "<p>y")</script>';
  const page = await site.open(html(`<p>x</p>${run}`));
  assert.is(await page.evaluate('done'), false);
});

test('mergeHtml() leaves what the user did, and what plays', async () => {
  const wav = Buffer.alloc(44 + 80_000, 128);
  wav.write('RIFF', 0);
  wav.writeUInt32LE(36 + 80_000, 4);
  wav.write('WAVEfmt ', 8);
  for (const [i, n] of [16, 1 | (1 << 16), 8000, 8000, 1 | (8 << 16)].entries())
    wav.writeUInt32LE(n, 16 + 4 * i);
  wav.write('data', 36);
  wav.writeUInt32LE(80_000, 40);
  site.files.set('/sound.wav', { type: 'audio/wav', body: wav });
  const source = (text: string, more = '') =>
    html(
      `<h1>${text}</h1>${more}<form><input name=text value=a><input type=checkbox name=check><textarea name=area>b</textarea>
      <select name=one><option>1<option>2</select></form><details><summary>s</summary>d</details><dialog>d</dialog>
      <div id=box style="height:50px;overflow:auto"><div style="height:500px">${text}</div></div>
      <div id=animated>x</div><audio src=/sound.wav loop muted></audio><div style="height:3000px">tall</div>`,
      '<style>#animated { animation: a 100s linear; } @keyframes a { to { margin-left: 500px } }</style>',
    );
  const page = await site.open(source('one'));
  await page.evaluate(async () => {
    document.querySelector('details')?.setAttribute('open', '');
    document.querySelector('dialog')?.show();
    document.querySelector('select')?.options.item(1)?.setAttribute('data-none', '');
    const [text, check, one] = ['text', 'check', 'one'].map((name) =>
      document.querySelector(`[name=${name}]`),
    );
    if (check instanceof HTMLInputElement) check.checked = true;
    if (one instanceof HTMLSelectElement) one.value = '2';
    document.querySelector('#box')?.scrollTo(0, 77);
    scrollTo(0, 333);
    if (text instanceof HTMLInputElement) {
      text.focus({ preventScroll: true });
      text.value = 'typed by hand';
      text.setSelectionRange(2, 5);
    }
    await document.querySelector('audio')?.play();
  });
  const state = () =>
    page.evaluate(() => {
      const input = document.activeElement as HTMLInputElement;
      const audio = document.querySelector('audio');
      return {
        fields: [...new FormData(document.forms[0])],
        caret: [input.name, input.selectionStart, input.selectionEnd],
        open: [document.querySelector('details')?.open, document.querySelector('dialog')?.open],
        scroll: [scrollY, document.querySelector('#box')?.scrollTop],
        playing: audio?.paused === false && audio.error === null,
        animations: document.getAnimations().map((animation) => animation.playState),
      };
    });
  const before = await state();
  const time = () =>
    page.evaluate(() =>
      [document.getAnimations()[0]?.currentTime, document.querySelector('audio')?.currentTime].map(Number),
    );
  const times = await time();
  await page.evaluate('void (window.before = [...document.querySelectorAll("*")])');
  assert.is(await merge(page, source('one'), source('two')), true);
  assert.is(await merge(page, source('two'), source('two', '<!-- more -->')), true);
  assert.equal(await state(), before);
  for (const [i, now] of (await time()).entries()) assert.ok(now >= (times[i] ?? 0), 'it went on');
  assert.is(await page.evaluate('before.every((node) => node.isConnected)'), true);
});

test('mergeHtml() keeps typed text, focus and a running animation of what is moved', async () => {
  const form = '<form><input name=a class=spin></form>';
  const css = '<style>.spin { animation: a 100s } @keyframes a { to { opacity: 0 } }</style>';
  const sources = [
    `${form}<p>x</p>`,
    `<p>x</p>${form}`,
    `<p>x</p><main><div>${form}</div></main>`,
    `<div>${form}</div>`,
  ];
  const page = await site.open(html(sources[0] ?? '', css));
  await page.focus('input');
  await page.write('typed');
  // Where an element cannot move as one that stays, its animation starts again.
  const start = () =>
    page.evaluate(() => 'moveBefore' in document.body && document.getAnimations()[0]?.startTime);
  const before = await start();
  for (const [i, to] of sources.entries()) {
    assert.is(await merge(page, html(sources[Math.max(0, i - 1)] ?? '', css), html(to, css)), true);
    assert.equal(
      await page.evaluate(() => [document.querySelector('input')?.value, document.activeElement?.nodeName]),
      ['typed', 'INPUT'],
    );
    assert.is(await start(), before);
  }
});

const noCount = 'its driver cannot count the nodes of a page';

except({ firefox: noCount, webkit: noCount }, test)(
  'mergeHtml() 200 times leaves as many nodes as there were',
  async () => {
    const source = (n: number) =>
      html(n % 2 ? '<p>odd</p><ul><li>1<li>2</ul>' : '<ul><li>2<li>3</ul><h2>even</h2>');
    const page = await site.open(source(0));
    const session = await puppeteerOf(page).createCDPSession();
    const count = async () => {
      await session.send('HeapProfiler.collectGarbage');
      return (await puppeteerOf(page).metrics()).Nodes ?? 0;
    };
    const run = (from: number, to: number) =>
      page.evaluate(
        (sources) => sources.every((to, i) => i === 0 || merger.mergeHtml(sources[i - 1] ?? '', to)),
        Array.from({ length: to - from + 1 }, (_, i) => source(from + i)),
      );
    assert.is(await run(0, 2), true);
    const before = await count();
    assert.is(await run(2, 202), true);
    assert.is(await page.evaluate(() => document.querySelectorAll('body *').length), 4);
    await until(`the ${before} nodes there were`, async () => (await count()) <= before + 50);
    await session.detach();
  },
);

// Random documents and edits of them

type Content = Tag | string;
interface Tag {
  readonly name: string;
  readonly attributes: Map<string, string>;
  readonly children: Content[];
}

const VOID = /^(br|hr|img|input|meta|link)$/;
const NAMES =
  'div div section p p span b em a ul li li h2 table tr td form input textarea select option details summary img br svg g'.split(
    ' ',
  );

/** Numbers below `n`, the same ones for the same seed (mulberry32). */
function dice(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

type Dice = ReturnType<typeof dice>;

function pick<T>(roll: Dice, list: readonly T[]): T {
  const item = list[roll(list.length)];
  if (item === undefined) throw new RangeError('Nothing to pick from');
  return item;
}

function randomText(roll: Dice): string {
  return pick(roll, [
    '\n',
    '\n  ',
    ' ',
    'one',
    'two words',
    'a &amp; b',
    'three',
    '<!--note-->',
    '<!--mark-->',
  ]);
}

function randomAttributes(roll: Dice): Map<string, string> {
  const attributes = new Map<string, string>();
  const values: Record<string, () => string> = {
    class: () => [pick(roll, 'abc'.split('')), pick(roll, 'cdef'.split(''))].join(' '),
    id: () => `i${roll(30)}`,
    title: () => `t${roll(4)}`,
    style: () => `color: ${pick(roll, ['red', 'green'])}`,
    'data-x': () => `${roll(3)}`,
    href: () => `#${roll(3)}`,
    hidden: () => '',
    name: () => `n${roll(3)}`,
    value: () => `v${roll(3)}`,
    '@odd': () => `${roll(3)}`,
  };
  for (let i = roll(3); i > 0; i--) {
    const name = pick(roll, Object.keys(values));
    attributes.set(name, values[name]?.() ?? '');
  }
  return attributes;
}

function randomTag(roll: Dice, depth: number): Tag {
  const children: Content[] = [];
  const name = pick(roll, NAMES);
  for (let i = depth > 0 ? roll(5) : 0; i > 0; i--) children.push(randomContent(roll, depth - 1));
  return { name, attributes: randomAttributes(roll), children };
}

function randomContent(roll: Dice, depth: number): Content {
  return roll(2) === 0 ? randomText(roll) : randomTag(roll, depth);
}

function all(tag: Tag): Tag[] {
  return [tag, ...tag.children.flatMap((child) => (typeof child === 'string' ? [] : all(child)))];
}

/** Does one random edit to what is below `root`. */
function edit(root: Tag, roll: Dice): void {
  const tag = pick(roll, all(root));
  const at = roll(tag.children.length + 1);
  const child = tag.children[at];
  const kinds: readonly (() => void)[] = [
    () => tag.children.splice(at, 1, randomText(roll)),
    () => tag.children.splice(at, 0, randomContent(roll, 2)),
    () => tag.children.splice(at, 1),
    () => {
      const [moved] = tag.children.splice(at, 1);
      if (moved !== undefined) pick(roll, all(root)).children.splice(roll(3), 0, moved);
    },
    () => tag.children.reverse(),
    () =>
      child !== undefined &&
      tag.children.splice(at, 1, { name: 'div', attributes: new Map(), children: [child] }),
    () => typeof child === 'object' && tag.children.splice(at, 1, ...child.children),
    () => {
      for (const [name, value] of randomAttributes(roll)) if (tag !== root) tag.attributes.set(name, value);
    },
    () => tag.attributes.delete(pick(roll, ['class', 'id', 'title', 'style', ...tag.attributes.keys()])),
  ];
  pick(roll, kinds)();
}

function serialize(content: Content): string {
  if (typeof content === 'string') return content;
  const attributes = [...content.attributes].map(([name, value]) => ` ${name}="${value}"`).join('');
  const start = `<${content.name}${attributes}>`;
  return VOID.test(content.name)
    ? start
    : `${start}${content.children.map(serialize).join('')}</${content.name}>`;
}

/** Loads each source in a frame of its own, merges the next ones into it, and compares with fresh loads of them. */
function compareWithFreshLoads(page: Page, histories: readonly (readonly string[])[]) {
  return page.evaluate(async (histories) => {
    const load = (source: string) =>
      new Promise<HTMLIFrameElement>((resolve) => {
        const frame = document.createElement('iframe');
        frame.srcdoc = source;
        frame.onload = () => resolve(frame);
        document.body.append(frame);
      });
    /** The tree in words; of what scripts made only if `own` is false. */
    const describe = (node: Node, own: boolean): string => {
      const element = node.nodeType === 1 ? (node as Element) : undefined;
      if (own && element?.hasAttribute('s-made')) return '';
      const attributes = [...(element?.attributes ?? [])]
        .map(({ name, value, namespaceURI }) => {
          if (!own) return `${namespaceURI} ${name}=${JSON.stringify(value)}`;
          if (name.startsWith('s-')) return '';
          // A class list that a script has added to has each token once.
          const tokens = new Set(value.split(/\s+/).filter((token) => token && !token.startsWith('s-')));
          return `${namespaceURI} ${name}=${JSON.stringify(name === 'class' ? [...tokens].join(' ') : value)}`;
        })
        .filter((text) => text && !/ class=""$/.test(text))
        .sort();
      const children = [...node.childNodes].map((child) => describe(child, own)).join('');
      const data = element ? '' : JSON.stringify(node.nodeValue);
      return `<${node.nodeName} ${attributes.join(' ')}${data}>${children}</>\n`;
    };
    const made = (doc: Document) => [...doc.querySelectorAll('[s-made]')];
    const results: { index: number; merged: number; wrong?: string; want?: string }[] = [];
    for (const [index, [first = '', ...rest]] of histories.entries()) {
      const frame = await load(first);
      const doc = frame.contentDocument;
      if (!doc) throw new Error('No document in the frame');
      let before = first;
      let merged = 0;
      for (const source of rest) {
        const untouched = describe(doc, false);
        const built = made(doc).map((node) => ({ node, parent: node.parentNode, text: node.outerHTML }));
        const done = merger.mergeHtml(before, source, doc);
        if (!done) {
          if (describe(doc, false) !== untouched) {
            results.push({ index, merged, wrong: describe(doc, false), want: untouched });
          }
          continue;
        }
        before = source;
        merged++;
        const fresh = await load(source);
        const [now, want] = [doc, fresh.contentDocument].map((d) => (d ? describe(d, true) : ''));
        if (now !== want) results.push({ index, merged, wrong: now, want });
        for (const { node, parent, text } of built) {
          if (!parent?.isConnected || (node.parentNode === parent && node.outerHTML === text)) continue;
          results.push({ index, merged, wrong: node.outerHTML, want: text });
        }
        fresh.remove();
      }
      results.push({ index, merged });
      frame.remove();
    }
    return results;
  }, histories);
}

/** Builds things, as the scripts of pages do: nodes, classes, attributes and text. Numbers are those of `dice`. */
const BUILDER = `<script>{
  let state = SEED;
  const roll = (n) => (state = (Math.imul(state, 1103515245) + 12345) >>> 1) % n;
  addEventListener('DOMContentLoaded', () => {
    for (const element of document.body.querySelectorAll('*')) {
      const made = document.createElement('i');
      made.setAttribute('s-made', '');
      made.textContent = 'made ' + roll(9);
      const kind = roll(12);
      if (kind === 0) element.append(made);
      if (kind === 1) element.prepend(made);
      if (kind === 2) element.before(made);
      if (kind === 3) element.after(made);
      if (kind === 4) element.classList.add('s-class');
      if (kind === 5) element.setAttribute('s-attribute', roll(9));
    }
  });
}</script>`;

function randomHistory(seed: number, scripts: boolean): string[] {
  const roll = dice(seed);
  const body: Tag = { name: 'body', attributes: new Map(), children: [] };
  for (let i = 3 + roll(5); i > 0; i--) body.children.push(randomContent(roll, 3));
  const head = `<title>T</title>${scripts ? BUILDER.replace('SEED', `${seed}`) : ''}`;
  const source = () => `<!doctype html><html><head>${head}</head>${serialize(body)}</html>`;
  const history = [source()];
  for (let i = 0; i < 4; i++) {
    for (let n = roll(3); n >= 0; n--) edit(body, roll);
    history.push(source());
  }
  return history;
}

for (const scripts of [false, true]) {
  const name = scripts ? 'random documents that scripts have built on' : 'random documents';
  test(`mergeHtml() of random edits of ${name} gives what a fresh load gives`, async () => {
    const page = await site.open(html(''));
    const first = Number(process.env.SEED ?? Date.now() % 1e6);
    const count = process.env.SEED ? 1 : 40;
    const histories = Array.from({ length: count }, (_, i) => randomHistory(first + i, scripts));
    const results = await compareWithFreshLoads(page, histories);
    for (const { index, wrong, want } of results) {
      assert.is(wrong, want, `SEED=${first + index} shows it again:\n${histories[index]?.join('\n\n')}`);
    }
    const merged = results.reduce((sum, result) => sum + result.merged, 0);
    assert.ok(
      process.env.SEED || merged > count * (scripts ? 0.4 : 3),
      `${merged} merges of ${count} documents`,
    );
  });
}

test.run();
