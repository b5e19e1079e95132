// A reload that keeps your place: what a user has done to a page is there in the next one too.

import { rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { start } from '../../src/index.ts';
import { freePort, until } from '../harness.ts';
import { except, type Page } from './engine.ts';
import { type Front, front } from './front.ts';
import { type Site, see, sites, typeInto } from './site.ts';

const { serve, [Symbol.asyncDispose]: close } = await sites();

/** A minute of silence: 8-bit samples, 8000 a second. */
function wav(): Buffer {
  const samples = Buffer.alloc(60 * 8000, 128);
  const head = Buffer.from('RIFF....WAVEfmt ....................data....', 'latin1');
  head.writeUInt32LE(36 + samples.length, 4);
  for (const [value, bytes, at] of [
    [16, 4, 16],
    [1, 2, 20],
    [1, 2, 22],
    [8000, 4, 24],
    [8000, 4, 28],
    [1, 2, 32],
    [8, 2, 34],
  ] as const) {
    head.writeUIntLE(value, at, bytes);
  }
  head.writeUInt32LE(samples.length, 40);
  return Buffer.concat([head, samples]);
}

const html = (body: string) => `<!doctype html><title>t</title><script src=a.js></script><body>${body}`;

/** Saves the script of the page, and waits for the next page. */
async function reload(site: Site, page: Page): Promise<void> {
  await page.evaluate('window.marker = 1');
  site.folder.write('a.js', `${Math.random()}`);
  await see(page, 'window.marker === undefined && document.readyState', 'complete');
}

interface Place {
  readonly body: string;
  /** What the user does. */
  readonly act: string;
  readonly look: string;
  readonly expected: unknown;
  /** What is there after the reload. @default what is expected before */
  readonly after?: unknown;
}

const places: Record<string, Place> = {
  'an open dialog': {
    body: '<dialog id=g>x</dialog>',
    act: 'g.show()',
    look: '[g.open, g.matches(":modal")]',
    expected: [true, false],
  },
  'a modal dialog with the focus and the caret in it': {
    body: '<input autofocus><dialog id=g><input><input id=i value=abcd></dialog>',
    act: 'g.showModal(); i.focus(); i.setSelectionRange(1, 3)',
    look: '[g.matches(":modal"), document.activeElement.id, i.selectionStart, i.selectionEnd]',
    expected: [true, 'i', 1, 3],
  },
  'a dialog that was closed': {
    body: '<dialog id=g open>x</dialog><dialog id=h>x</dialog><script>h.showModal()</script>',
    act: 'g.close(); h.close()',
    look: '[g.open, h.open, h.matches(":modal")]',
    expected: [false, false, false],
  },
  'an open popover': {
    body: '<div popover id=g>x</div>',
    act: 'g.showPopover()',
    look: 'g.matches(":popover-open")',
    expected: true,
  },
  'opened and closed details': {
    body: '<details id=d><summary>s</summary>x</details><details id=e open><summary>s</summary>x</details>',
    act: 'd.open = true; e.open = false',
    look: '[d.open, e.open]',
    expected: [true, false],
  },
  'fields of all kinds': {
    body: `<input id=a value=was><input id=b type=range><textarea id=c>was</textarea><input id=d type=checkbox>
      <input id=e type=checkbox checked><input type=radio name=r id=f checked><input type=radio name=r id=g>
      <select id=h><option selected>1<option>2</select><select id=k multiple><option selected>1<option>2<option>3</select>`,
    act: `a.value = 'is'; b.value = 7; c.value = 'is'; d.checked = true; e.checked = false; g.checked = true;
      h.value = 2; k.options[0].selected = false; k.options[1].selected = k.options[2].selected = true`,
    look: `[a.value, b.value, c.value, d.checked, e.checked, f.checked, g.checked, h.value,
      Array.from(k.selectedOptions, (it) => it.value), d.getAttribute('value')]`,
    expected: ['is', '7', 'is', true, false, false, true, '2', ['2', '3'], null],
  },
  'what only scripts make': {
    body: `<x-y id=x></x-y><output id=o></output>`,
    act: 'o.value = "by script"; x.value = x.open = x.checked = 1',
    look: '[o.value, x.value ?? 0, x.open ?? 0, x.checked ?? 0]',
    expected: ['by script', 1, 1, 1],
    after: ['', 0, 0, 0],
  },
  'the scroll of window and boxes': {
    body: '<div id=box style="height:99px;overflow:auto"><p style="height:999px"></div><p style="height:4000px">',
    act: 'box.scrollTop = 123; scrollTo(0, 456)',
    look: '[box.scrollTop, scrollY]',
    expected: [123, 456],
  },
  'media that rests': {
    body: '<audio id=m src=tone.wav controls></audio>',
    act: 'm.currentTime = 12; m.volume = 0.5; m.muted = true',
    look: '[m.currentTime, m.volume, m.muted, m.paused]',
    expected: [12, 0.5, true, true],
  },
  'media that plays': {
    body: '<audio id=m src=tone.wav muted></audio>',
    act: 'm.currentTime = 12; m.play()',
    look: '[m.currentTime >= 12, m.currentTime < 30, m.paused]',
    expected: [true, true, false],
  },
};

for (const [name, { body, act, look, expected, after = expected }] of Object.entries(places)) {
  test(`${name}: after a reload`, async () => {
    await using site = await serve({ 'index.html': html(body), 'a.js': '', 'tone.wav': wav() });
    const page = await site.open();
    await see(page, '[...document.querySelectorAll("audio")].every((it) => it.readyState > 0)', true);
    await page.evaluate(`void (() => { ${act} })()`);
    await see(page, look, expected);
    await reload(site, page);
    // Taken, and so done: what is to be as it was without that is not seen too early.
    await see(page, 'Object.keys(sessionStorage).filter((it) => it.includes("place")).length', 0);
    await see(page, look, after);
  });
}

test('passwords and files are never kept', async () => {
  const body = `<input id=a><input id=b type=password><input id=c type=password autocomplete=current-password>
    <input id=d type=hidden value=was><input id=e type=file>`;
  await using site = await serve({ 'index.html': html(body), 'a.js': '' });
  const page = await site.open();
  await page.evaluate(`
    const { setItem } = Storage.prototype;
    Storage.prototype.setItem = function (key, value) { setItem.call(this, key, value); setItem.call(localStorage, key, value) };
    const files = new DataTransfer(); files.items.add(new File(['secret'], 'secret.txt')); e.files = files.files;
    a.value = 'open'; b.value = 'secret'; d.value = 'secret'; c.value = 'secret'; c.type = 'text'`);
  await reload(site, page);
  await see(page, '[a.value, b.value, c.value]', ['open', '', '']);
  const kept = String(await page.evaluate('JSON.stringify(localStorage)'));
  assert.match(kept, 'open');
  assert.not.match(kept, 'secret');
});

test('to be put back in place the next page loads nothing of ours before it has come itself', async () => {
  await using site = await serve({ 'index.html': html('<input id=i>'), 'a.js': '' });
  const page = await site.open();
  await page.type('#i', 'typed');
  await reload(site, page);
  await see(page, 'i.value', 'typed');
  const loaded = 'performance.getEntriesByType("navigation")[0].loadEventStart';
  await until('the page', () => page.evaluate(`${loaded} > 0`));
  const parts = await page.evaluate(
    `performance.getEntriesByType('resource').flatMap(({ name, startTime }) =>
      /(keep|restore)\\.js/.exec(name)?.[0] ?? (startTime < ${loaded} ? (/change\\.js/.exec(name)?.[0] ?? []) : []))`,
  );
  assert.equal(parts, []);
});

/** A server in front of the site's, that answers `path` when our client has run in the page; what that fetches is slow. */
function afterClient(site: Site, path: string): Promise<Front> {
  let runs = Promise.resolve();
  let run = () => {};
  return front(site.server, {
    // Firefox would hold back what it may until there are stylesheets.
    script: 'const xhr = new XMLHttpRequest(); xhr.open("GET", "/ran", false); xhr.send()',
    answer: async ({ url = '' }, res) => {
      if (url === '/') runs = new Promise((resolve) => (run = resolve));
      if (url === path) await runs;
      if (/keep|restore/.test(url)) await new Promise((resolve) => setTimeout(resolve, 200));
      if (url !== '/ran') return false;
      run();
      res.end();
      return true;
    },
  });
}

const notBefore = 'runs no async script while the parser waits for another';

except({ webkit: notBefore }, test)(
  'what the user did outlives what a script sets up while the page is built',
  async () => {
    const body = '<input id=i><details id=d><summary>s</summary>x</details><script src=late.js></script>';
    await using site = await serve({
      'index.html': html(body),
      'a.js': '',
      'late.js': 'i.value = "set up"; d.open = false',
    });
    await using slow = await afterClient(site, '/late.js');
    const page = await site.open(slow.url);
    await page.evaluate('i.value = "typed"; d.open = true');
    await reload(site, page);
    await see(page, '[i.value, d.open]', ['typed', true]);
  },
);

/** Collects what is to be seen after each frame: a message comes when the frame is over. */
const FRAMES = `<script>
  const frames = [];
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => frames.push([performance.now(), look()]);
  const frame = () => requestAnimationFrame(() => { port2.postMessage(0); frame(); });
  frame();
</script>`;

for (const [name, paragraphs] of [
  ['a short page', 150],
  ['a page that is painted before all of it has come', 20_000],
] as const) {
  test(`no frame of ${name} shows it anywhere else`, async () => {
    const look = `<script>
      const look = () => document.body && String([scrollY, box.scrollTop, i.value, d.open, getComputedStyle(d).color]);
    </script>`;
    const body = `<details id=d><summary>s</summary><p style="height:300px"></details><input id=i>
      <div id=box style="height:99px;overflow:auto"><p style="height:999px"></div>
      ${'<p>Some text</p>'.repeat(paragraphs)}`;
    await using site = await serve({
      'index.html': html(body).replace('<body>', `${look}${FRAMES}<link rel=stylesheet href=a.css><body>`),
      'a.js': '',
      'a.css': 'details { color: rgb(1 2 3) }',
    });
    // Nothing is painted before the stylesheet has come.
    await using slow = await afterClient(site, '/a.css');
    const page = await site.open(slow.url);
    await page.evaluate('d.open = true; i.value = "typed"; box.scrollTop = 123; scrollTo(0, 1456)');
    await reload(site, page);
    const painted = await until('frames', async () => {
      const text = await page.evaluate(`(() => {
        const [first] = performance.getEntriesByType('paint'); // Firefox may know of none: then all frames count
        const painted = frames.filter(([time]) => time >= (first?.startTime ?? 0));
        return painted.length > 20 && JSON.stringify(painted.map(([, shown]) => shown));
      })()`);
      return typeof text === 'string' && (JSON.parse(text) as string[]);
    });
    assert.equal([...new Set(painted)], ['1456,123,typed,true,rgb(1, 2, 3)']);
  });
}

test('the place is kept when the server was away in between', async () => {
  const body = '<input id=i><dialog id=g>x</dialog><p style="height:4000px">';
  const port = await freePort();
  await using site = await serve({ 'index.html': html(body), 'a.js': '' }, { port });
  const page = await site.open();
  await typeInto(page, '#i', 'typed');
  await page.evaluate('g.showModal(); scrollTo(0, 456); window.marker = 1');
  await site.server.close();
  site.folder.write('index.html', html(`<h1>new</h1>${body}`));
  await using again = await start({ root: site.folder.path, port, host: '127.0.0.1' });
  await until('the page to be back', () => again.clients === 1);
  await see(page, '[document.querySelector("h1")?.textContent, i.value, g.matches(":modal"), scrollY]', [
    'new',
    'typed',
    true,
    456,
  ]);
});

test('the place is kept while another page stands in: what is not found, and an error', async () => {
  const body = '<input id=i><p style="height:4000px">';
  const broken = (req: IncomingMessage, res: ServerResponse, next: () => void) => {
    if (!isBroken || req.url !== '/') return next();
    res.writeHead(500, { 'Content-Type': 'text/html' }).end('<!doctype html><h1>broken</h1>');
  };
  let isBroken = false;
  await using site = await serve({ 'index.html': html(body), 'a.js': '' }, { middleware: [broken] });
  const page = await site.open(`${site.server.url}index.html`);
  const title = 'document.querySelector("h1")?.textContent';
  await typeInto(page, '#i', 'typed');
  await page.evaluate('scrollTo(0, 456)');
  rmSync(site.folder.file('index.html'));
  await see(page, title, 'Nothing here yet');
  site.folder.write('index.html', html(body));
  await see(page, '[document.querySelector("#i")?.value, scrollY]', ['typed', 456]);
  await see(page, 'document.readyState', 'complete');

  await page.goto(site.server.url);
  await typeInto(page, '#i', 'typed');
  await page.evaluate('scrollTo(0, 456)');
  isBroken = true;
  site.server.reload();
  await see(page, title, 'broken');
  await page.evaluate('window.marker = 1');
  site.server.reload();
  await see(page, `[window.marker ?? 0, ${title}]`, [0, 'broken']);
  isBroken = false;
  site.server.reload();
  await see(page, '[document.querySelector("#i")?.value, scrollY]', ['typed', 456]);
});

test('the place is kept while the list of the folder stands in', async () => {
  await using site = await serve({ 'index.html': html('<input id=i>'), 'a.js': '' });
  const page = await site.open();
  await page.type('#i', 'typed');
  rmSync(site.folder.file('index.html'));
  await see(page, 'document.querySelector("h1")?.textContent', 'Files');
  site.folder.write('index.html', html('<input id=i>'));
  await see(page, 'document.querySelector("#i")?.value', 'typed');
});

test('a page that is sent with an error status keeps a place of its own', async () => {
  await using site = await serve({ '404.html': html('<input id=i>'), 'a.js': '' });
  const page = await site.open(`${site.server.url}nowhere`);
  await page.type('#i', 'typed');
  await reload(site, page);
  await see(page, 'i.value', 'typed');
});

test.after(async () => {
  await close();
});
test.run();
