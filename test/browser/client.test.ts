import { readFileSync, rmSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type LiveServer, type StartOptions, start } from '../../src/index.ts';
import { type Folder, folder, freePort, get, passTick, until } from '../harness.ts';
import { blocksOf } from '../installed.ts';
import { type Context, except, launch, type Page } from './engine.ts';
import { front } from './front.ts';

/** A folder that is served, and pages of it in a browser of their own. */
interface Site extends AsyncDisposable {
  readonly server: LiveServer;
  readonly folder: Folder;
  readonly context: Context;
  /** Paths and queries that were requested. */
  readonly requests: string[];
  /** Opens a page and waits until it hears the server. */
  open(path?: string): Promise<Page>;
}

const browser = await launch();

async function serve(files: Record<string, string>, options: StartOptions = {}): Promise<Site> {
  const site = folder(files);
  const server = await start({ root: site.path, port: await freePort(), host: '127.0.0.1', ...options });
  const requests: string[] = [];
  server.server.on('request', (req) => requests.push(req.url ?? ''));
  const context = await browser.newContext();
  return {
    server,
    folder: site,
    context,
    requests,
    open: async (path = '') => {
      const page = await context.newPage();
      await page.goto(server.url + path);
      await heard(page, server);
      await page.evaluate('window.marker = 1');
      return page;
    },
    [Symbol.asyncDispose]: async () => {
      await context.close();
      await server.close();
      site[Symbol.dispose]();
    },
  };
}

/** Collects the events of a page from now on, and on demand what it looks like in each frame. */
const WATCH = `{
  const heard = (window.heard = []);
  addEventListener('live-sse:sentinel', ({ detail }) => heard.push(detail));
  const looks = (window.looks = []);
  window.watch = (look) => {
    const now = String(look());
    if (looks.at(-1) !== now) looks.push(now);
    requestAnimationFrame(() => watch(look));
  };
}`;

let sentinels = 0;

/** Resolves when the page has got an event that is sent now: all that was sent before has been there too. */
async function heard(page: Page, server: LiveServer): Promise<void> {
  const number = ++sentinels;
  const hears = async () => {
    if (!(await page.evaluate('!!window.heard'))) await page.evaluate(WATCH);
    return page.evaluate(`heard.includes(${number})`) as Promise<boolean>;
  };
  await until('the page to hear of an event', () => {
    server.send('sentinel', number);
    return hears().catch(() => false); // between two pages
  });
}

/** Resolves when this many entries have changed. */
function changes(server: LiveServer, count: number): Promise<void> {
  let seen = 0;
  return new Promise((resolve) => {
    server.on('change', ({ changes }) => {
      seen += changes.length;
      if (seen >= count) resolve();
    });
  });
}

const look = (page: Page, expression: string) => page.evaluate(expression);

/** Waits until an expression gives this value in the page, whatever happens to the page meanwhile. */
async function see(page: Page, expression: string, expected: unknown, ms?: number): Promise<void> {
  let last: unknown;
  await until(
    `${expression} to be ${JSON.stringify(expected)}`,
    async () => {
      last = await page.evaluate(expression).catch(() => undefined); // between two pages
      return JSON.stringify(last) === JSON.stringify(expected);
    },
    ms,
  ).catch((error: Error) => {
    throw new Error(`${error.message}; it is ${JSON.stringify(last)}`);
  });
}

const style = (selector: string, property: string) =>
  `getComputedStyle(document.querySelector('${selector}')).${property}`;

const html = (head: string, body = '<p id=p>text</p>') =>
  `<!doctype html><html><head><title>t</title>${head}</head><body>${body}</body></html>`;

const stays = (page: Page) => see(page, 'window.marker', 1);
const reloads = (page: Page) =>
  see(page, 'document.readyState === "complete" && window.marker === undefined', true);

test('a saved stylesheet is swapped in place, and no frame is unstyled', async () => {
  await using site = await serve({
    'index.html': html(
      '<link rel=stylesheet href=a.css id=a title=main media=screen><link rel=stylesheet href=b.css>',
      `<div id=box style="height:100px;overflow:auto"><p id=p>text</p><div style="height:900px"></div></div>
       <details open id=d><summary>s</summary>x</details><input id=i><div style="height:4000px"></div>`,
    ),
    'a.css': 'p { color: rgb(1, 0, 0); width: 300px }',
    'b.css': 'p { background: rgb(0, 0, 1) }',
  });
  const page = await site.open();
  await page.click('#i');
  await page.type('#i', 'typed');
  await page.evaluate('i.setSelectionRange(1, 3); box.scrollTop = 123; scrollTo(0, 77)');
  const state =
    '[marker, i.value, document.activeElement.id, i.selectionStart, i.selectionEnd, box.scrollTop, scrollY]';
  const before = await look(page, state);
  await page.evaluate(
    `watch(() => [${style('p', 'color')}, ${style('p', 'width')}, ${style('p', 'backgroundColor')}])`,
  );

  site.folder.write('a.css', 'p { color: rgb(2, 0, 0); width: 300px; background: red }');
  await see(page, style('p', 'color'), 'rgb(2, 0, 0)');
  await see(page, 'document.querySelectorAll("link").length', 2);

  assert.equal(await look(page, state), before);
  await see(page, 'looks', ['rgb(1, 0, 0),300px,rgb(0, 0, 1)', 'rgb(2, 0, 0),300px,rgb(0, 0, 1)']);
  assert.match(
    String(await look(page, 'document.head.innerHTML')),
    /<link rel="stylesheet" href="a\.css\?live-sse=[^"&]+" id="a" title="main" media="screen"><link rel="stylesheet" href="b\.css">/,
  );
});

test('a stylesheet that is imported at any depth is fetched again', async () => {
  await using site = await serve({
    'index.html': html('<link rel=stylesheet href=css/a.css>'),
    'css/a.css': '@import "more/b.css"; p { color: rgb(1, 0, 0) }',
    'css/more/b.css': '@import url("../c.css");',
    'css/c.css': 'p { width: 100px }',
  });
  const page = await site.open();
  await page.evaluate(`watch(() => [${style('p', 'color')}, ${style('p', 'width')}])`);
  for (const width of ['200px', '300px']) {
    site.folder.write('css/c.css', `p { width: ${width} }`);
    await see(page, 'looks.at(-1)', `rgb(1, 0, 0),${width}`);
  }
  await stays(page);
  await see(page, 'looks', ['rgb(1, 0, 0),100px', 'rgb(1, 0, 0),200px', 'rgb(1, 0, 0),300px']);
});

test('a stylesheet that a <style> imports is fetched again', async () => {
  await using site = await serve({
    'index.html': html('<style>@import "a.css"; @import url(b.css); p { height: 9px }</style>'),
    'a.css': '@import "c.css"; p { color: rgb(1, 0, 0) }',
    'b.css': 'p { top: 1px }',
    'c.css': 'p { width: 100px }',
  });
  const page = await site.open();
  await page.evaluate(
    `watch(() => [${style('p', 'color')}, ${style('p', 'width')}, ${style('p', 'height')}])`,
  );
  for (const width of ['200px', '300px']) {
    site.folder.write('c.css', `p { width: ${width} }`);
    await see(page, 'looks.at(-1)', `rgb(1, 0, 0),${width},9px`);
  }
  await stays(page);
  await see(page, 'document.querySelectorAll("style").length', 1);
  await see(
    page,
    'looks',
    [100, 200, 300].map((width) => `rgb(1, 0, 0),${width}px,9px`),
  );
});

test('a stylesheet in open shadow roots is swapped', async () => {
  await using site = await serve({
    'index.html': html('', '<div id=host></div>'),
    'a.css': '@import "b.css"; i { color: rgb(1, 0, 0) }',
    'b.css': 'i { width: 1px }',
  });
  const page = await site.open();
  await page.evaluate(`
    const outer = host.attachShadow({ mode: 'open' });
    outer.innerHTML = '<b></b>';
    window.inner = outer.firstChild.appendChild(document.createElement('div')).attachShadow({ mode: 'open' });
    inner.innerHTML = '<link rel=stylesheet href=a.css><i style="display:block"></i>'`);
  const color = 'getComputedStyle(inner.querySelector("i")).color';
  await see(page, color, 'rgb(1, 0, 0)');
  site.folder.write('a.css', '@import "b.css"; i { color: rgb(2, 0, 0) }');
  await see(page, color, 'rgb(2, 0, 0)');
  site.folder.write('b.css', 'i { width: 2px }');
  await see(page, 'getComputedStyle(inner.querySelector("i")).width', '2px');
  await stays(page);
});

test('a stylesheet that does not come leaves the old one', async () => {
  let broken = false;
  const files = {
    'index.html': html('<link rel=stylesheet href=a.css>'),
    'a.css': 'p { color: rgb(1, 0, 0) }',
  };
  await using site = await serve(files, {
    middleware: [
      (req, res, next) => (broken && req.url?.startsWith('/a.css') ? res.writeHead(503).end() : next()),
    ],
  });
  const page = await site.open();
  await page.evaluate(`watch(() => ${style('p', 'color')})`);
  broken = true;
  site.folder.write('a.css', 'p { color: rgb(2, 0, 0) }');
  await until('the sheet to be asked for', () => site.requests.some((url) => url.startsWith('/a.css?')));
  await see(page, 'document.querySelectorAll("link").length', 1);
  await see(page, 'looks', ['rgb(1, 0, 0)']);
  broken = false;
  site.folder.write('a.css', 'p { color: rgb(3, 0, 0) }');
  await see(page, style('p', 'color'), 'rgb(3, 0, 0)');
  await stays(page);
});

test('alternate, disabled and non-matching sheets stay what they are', async () => {
  await using site = await serve({
    'index.html': html(
      `<link rel=stylesheet href=a.css title=one><link rel="alternate stylesheet" href=b.css title=two>
       <link rel=stylesheet href=c.css disabled><link rel=stylesheet href=d.css media=print>`,
    ),
    'a.css': 'p { width: 1px }',
    'b.css': 'p { width: 2px }',
    'c.css': 'p { width: 3px }',
    'd.css': 'p { width: 4px }',
  });
  const page = await site.open();
  await page.evaluate(`watch(() => ${style('p', 'width')})`);
  for (const name of ['b.css', 'c.css', 'd.css']) site.folder.write(name, 'p { width: 9px }');
  await see(
    page,
    '[...document.querySelectorAll("link")].filter((it) => it.href.includes("live-sse")).length',
    3,
  );
  site.folder.write('a.css', 'p { width: 5px }');
  await see(page, style('p', 'width'), '5px');
  await see(page, 'document.querySelectorAll("link").length', 4);
  await see(page, 'looks', ['1px', '5px']);
  await page.evaluate('document.querySelector("[disabled]").disabled = false');
  await see(page, style('p', 'width'), '9px');
  await stays(page);
});

test('css without paths is every stylesheet', async () => {
  await using site = await serve({
    'index.html': html('<link rel=stylesheet href=a.css>'),
    'a.css': 'p { width: 1px }',
  });
  const page = await site.open();
  site.folder.write('a.css', 'p { width: 2px }');
  site.server.css();
  await see(page, style('p', 'width'), '2px');
  await stays(page);
});

interface Slow {
  readonly file: string;
  readonly old: string;
  /** Its text, and what `shown` gives then. */
  readonly new: readonly [text: string, shows: string];
  /** Asks for the file and shows it. */
  readonly ask: string;
  /** @default document.title */
  readonly shown?: string;
  readonly how: 'by a reload' | 'in place';
}

const svg = (width: number) => `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="1"/>`;

const slow: Record<string, Slow> = {
  'what a script fetches': {
    file: 'data.json',
    old: '1',
    new: ['2', '2'],
    ask: 'fetch("data.json").then(async (it) => { document.title = await it.text() })',
    how: 'by a reload',
  },
  'a module': {
    file: 'm.js',
    old: 'export default 1',
    new: ['export default 2', '2'],
    ask: 'import("./m.js").then((it) => { document.title = it.default })',
    how: 'by a reload',
  },
  'a worker': {
    file: 'w.js',
    old: 'postMessage(1)',
    new: ['postMessage(2)', '2'],
    ask: 'new Worker("w.js").onmessage = ({ data }) => { document.title = data }',
    how: 'by a reload',
  },
  'an image that no element names': {
    file: 'a.svg',
    old: svg(1),
    new: [svg(2), '1 true'], // the image of the script is the script's
    ask: `document.body.style.background = 'url(a.svg)';
      Object.assign(new Image(), { src: 'a.svg', onload() { document.title = this.width } })`,
    shown: 'document.title + " " + /live-sse=/.test(document.body.style.background)',
    how: 'in place',
  },
  'a stylesheet that another imports': {
    file: 'a.css',
    old: '#p { width: 1px }',
    new: ['#p { width: 2px }', '2px'],
    ask: `document.head.appendChild(document.createElement('style')).textContent = '@import "a.css"'`,
    shown: 'getComputedStyle(p).width',
    how: 'in place',
  },
};

for (const [name, { file, old, new: saved, ask, shown = 'document.title', how }] of Object.entries(slow)) {
  test(`${name} is saved while it is on its way: it is shown ${how}`, async () => {
    const script = `<script>addEventListener('load', () => setTimeout(() => { ${ask} }))</script>`;
    await using site = await serve({ 'index.html': html(script), [file]: old, 'other.txt': '' });
    let release = () => {};
    const held = new Promise<void>((resolve) => (release = resolve));
    let asked = 0;
    await using gate = await front(site.server, {
      answer: async (req, res) => {
        if (req.url !== `/${file}`) return false;
        const { headers, body } = await get(site.server.url, req.url);
        asked++;
        await held;
        res.writeHead(200, headers).end(body);
        return true;
      },
    });
    const page = await site.context.newPage();
    await page.goto(gate.url);
    await heard(page, site.server);
    await page.evaluate('window.marker = 1');
    await until('the page to ask for it', () => asked > 0);
    const told = changes(site.server, 2);
    site.folder.write('other.txt', 'new');
    site.folder.write(file, saved[0]);
    await told;
    await heard(page, site.server);
    await stays(page);
    release();
    await see(page, shown, saved[1]);
    await (how === 'by a reload' ? reloads(page) : stays(page));
    // Once is enough.
    await page.evaluate('window.marker = 2');
    await heard(page, site.server);
    await heard(page, site.server);
    await see(page, 'window.marker', 2);
  });
}

test('a file that was saved before the page asked for it does nothing more', async () => {
  await using site = await serve({ 'index.html': html(''), 'data.json': 'old' });
  const page = await site.open();
  const saved = changes(site.server, 1);
  site.folder.write('data.json', 'new');
  await saved;
  await heard(page, site.server);
  assert.is(await page.evaluate('fetch("data.json").then((it) => it.text())'), 'new');
  await heard(page, site.server);
  await heard(page, site.server);
  await stays(page);
});

test('a file that the page does not use does nothing', async () => {
  await using site = await serve({
    'index.html': html('<link rel=stylesheet href=a.css><link rel=icon href=data:,>'),
    'a.css': 'p { width: 1px }',
    'b.html': html(''),
  });
  const page = await site.open();
  const before = site.requests.length;
  const changed = changes(site.server, 6);
  for (const name of ['b.html', 'b.css', 'b.js', 'b/index.html', 'a.css.map', 'notes.txt'])
    site.folder.write(name, 'x');
  await changed;
  await heard(page, site.server);
  await stays(page);
  assert.equal(site.requests.slice(before), []);
});

const used: [string, string][] = [
  ['a script', 'a.js'],
  ['a module that a module imports', 'm2.js'],
  ['a script that is missing so far', 'missing.js'],
  ['a file that a script fetched', 'data%20%C3%A9.json'],
  ['what a worker loads', 'w2.js'],
];

for (const [name, path] of used) {
  test(`${name} reloads the page`, async () => {
    await using site = await serve({
      'index.html': html(
        `<script src=a.js></script><script src=missing.js></script><script type=module>import './m.js'; fetch('data é.json')</script>
         <script>new Worker('w.js')</script>`,
      ),
      'a.js': '',
      'm.js': 'import "./m2.js"',
      'm2.js': '',
      'w.js': 'importScripts("w2.js")',
      'w2.js': '',
      'data é.json': '{}',
    });
    const page = await site.open();
    await until(
      'everything to be loaded',
      () => site.requests.includes('/w2.js') && site.requests.some((it) => it.startsWith('/data')),
    );
    site.server.reload(`/${path}`);
    await reloads(page);
  });
}

test('images are shown in place, missing ones when they appear; one that goes reloads the page', async () => {
  await using site = await serve({
    'index.html': html('', '<img id=a src=a.svg><img id=b src=missing.svg>'),
    'a.svg': svg(10),
  });
  const page = await site.open();
  site.folder.write('a.svg', svg(20));
  await see(page, 'a.naturalWidth', 20);
  site.folder.write('missing.svg', svg(30));
  await see(page, 'b.naturalWidth', 30);
  await stays(page);
  rmSync(site.folder.file('a.svg'));
  await reloads(page);
});

test('an edit of the page is merged into it, and what scripts and the user did stays', async () => {
  const body = (text: string) => `<h1 id=h>${text}</h1><p>same</p><input id=i><div id=built></div>`;
  const script = '<script>addEventListener("load", () => { built.textContent = "by script" })</script>';
  await using site = await serve({ 'index.html': html(script, body('one')) });
  const page = await site.open();
  await see(page, 'built.textContent', 'by script');
  await page.type('#i', 'typed');
  for (const text of ['two', 'three']) {
    site.folder.write('index.html', html(script, body(text)));
    await see(page, '[h.textContent, i.value, document.activeElement.id, built.textContent]', [
      text,
      'typed',
      'i',
      'by script',
    ]);
    await stays(page);
  }
});

test('an edit of the page is merged as it came with the event, unless a script has moved the page', async () => {
  const body = (text: string) => html('<link rel=icon href=data:,>', `<p id=p>${text}</p>`);
  await using site = await serve({ 'index.html': body('one'), 'other.html': body('one') });
  const page = await site.open();
  const fetched = () => site.requests.filter((url) => !url.startsWith('/__events')).length;
  const before = fetched();
  for (const text of ['two', 'three']) {
    site.folder.write('index.html', body(text));
    await see(page, 'p.textContent', text);
  }
  assert.is(fetched(), before);
  await page.evaluate('history.pushState(null, "", "other.html")');
  site.folder.write('index.html', body('four'));
  await until('the page to be asked for', () => site.requests.includes('/other.html'));
});

test('the first save, and the first after a reload, finds the page with all that it needs', async () => {
  const body = (text: string) =>
    html('<link rel=stylesheet href=a.css><script src=a.js></script>', `<p id=p>${text}</p>`);
  await using site = await serve({ 'index.html': body('one'), 'a.css': 'p {}', 'a.js': '' });
  const page = await site.open();
  const parts = () =>
    site.requests
      .map((url) => url.replace(/[?].*/, ''))
      .filter((url) => /\/(change|keep|source)\b/.test(url));
  const ready = () =>
    until('the source of the page', () => parts().some((url) => url.startsWith('/__events/source/')));
  const isShownWithout = async (text: string, width: string) => {
    const before = parts();
    assert.ok(before.includes('/__events/change.js'));
    site.folder.write('a.css', `p { width: ${width} }`);
    await see(page, style('p', 'width'), width);
    site.folder.write('index.html', body(text));
    await see(page, 'p.textContent', text);
    assert.equal(parts(), before);
  };
  await page.evaluate('dispatchEvent(new Event("blur"))'); // whoever saves has gone to an editor
  await ready();
  await isShownWithout('two', '2px');
  site.requests.length = 0;
  site.folder.write('a.js', 'var a');
  await reloads(page);
  await ready();
  await heard(page, site.server);
  await page.evaluate('window.marker = 1');
  await isShownWithout('three', '3px');
  await stays(page);
});

test('what a worker of the page answers with is shown, and not what is on the disk', async () => {
  const worker = `
    addEventListener('install', () => skipWaiting());
    addEventListener('activate', (event) => event.waitUntil(clients.claim()));
    const answer = async (request) => {
      const text = await (await fetch(request)).text();
      return new Response(text.replace('px', '0px'), { headers: { 'content-type': 'text/css' } });
    };
    addEventListener('fetch', (event) => {
      if (event.request.url.includes('.css')) event.respondWith(answer(event.request));
    });`;
  await using site = await serve({
    'index.html': html('<link rel=stylesheet href=a.css>', '<p id=p>one</p>'),
    'a.css': 'p { width: 1px }',
    'worker.js': worker,
  });
  const page = await site.open();
  await page.evaluate(`new Promise((done) => {
    navigator.serviceWorker.addEventListener('controllerchange', done);
    navigator.serviceWorker.register('worker.js');
  })`);
  await page.evaluate(`{ ${WATCH} watch(() => ${style('p', 'width')}) }`);
  site.folder.write('a.css', 'p { width: 2px }');
  await see(page, 'looks.at(-1)', '20px');
  assert.equal(await page.evaluate('looks'), ['1px', '20px']);
  await page.evaluate('navigator.serviceWorker.getRegistration().then((it) => it.unregister())');
});

test('a page and its stylesheet, saved together, are both shown in place', async () => {
  await using site = await serve({
    'index.html': html('<link rel=stylesheet href=a.css>', '<p id=p>one</p>'),
    'a.css': 'p { width: 1px }',
  });
  const page = await site.open();
  site.folder.write('a.css', 'p { width: 2px }');
  site.folder.write('index.html', html('<link rel=stylesheet href=a.css>', '<p id=p>two</p>'));
  await see(page, `[p.textContent, ${style('p', 'width')}]`, ['two', '2px']);
  await stays(page);
});

test('a missing stylesheet that appears is shown without a reload, and one that goes is gone', async () => {
  await using site = await serve({ 'index.html': html('<link rel=stylesheet href=a.css>') });
  const page = await site.open();
  site.folder.write('a.css', 'p { width: 1px }');
  await see(page, style('p', 'width'), '1px');
  await stays(page);
  rmSync(site.folder.file('a.css'));
  await reloads(page);
  assert.is.not(await look(page, style('p', 'width')), '1px');
});

test('a listing shows what comes and goes in its folder', async () => {
  await using site = await serve({ 'img/a.svg': svg(1) });
  const page = await site.open('img/');
  const names =
    '[...document.querySelectorAll("th a")].map((it) => it.textContent).filter((it) => it.includes(".svg"))';
  await see(page, names, ['a.svg']);
  site.folder.write('img/b.svg', svg(1));
  await see(page, names, ['a.svg', 'b.svg']);
  rmSync(site.folder.file('img/a.svg'));
  await see(page, names, ['b.svg']);
});

test("an edit of the site's own 404 page is shown, and so is the page that was missing", async () => {
  await using site = await serve({ '404.html': html('', '<p>not yet</p>') });
  const page = await site.open('new');
  await see(page, 'document.body.textContent', 'not yet');
  site.folder.write('404.html', html('', '<p>still not</p>'));
  await see(page, 'document.body.textContent', 'still not');
  site.folder.write('new.html', html('', '<p>here</p>'));
  await see(page, 'document.body.textContent', 'here');
});

test('a missing page that appears is shown', async () => {
  await using site = await serve({ 'index.html': html('') });
  const page = await site.open('docs/');
  site.folder.write('docs/index.html', html('', 'docs'));
  await see(page, 'document.body.textContent', 'docs');
});

for (const [kind, frame] of [
  ['srcdoc', '<iframe id=f srcdoc="<link rel=stylesheet href=a.css><p>"></iframe>'],
  [
    'what a script has written',
    `<iframe id=f></iframe><script>
      f.contentDocument.write('<link rel=stylesheet href=a.css><p>'); f.contentDocument.close()</script>`,
  ],
]) {
  test(`a page reacts to what a frame loads that is no page of its own: ${kind}`, async () => {
    await using site = await serve({
      'index.html': html('', frame),
      'a.css': 'p { width: 1px }',
      'b.css': '',
    });
    const page = await site.open();
    const width = 'f.contentWindow.getComputedStyle(f.contentDocument.querySelector("p")).width';
    await see(page, width, '1px');
    const saved = changes(site.server, 1);
    site.folder.write('b.css', 'p { width: 3px }');
    await saved;
    await heard(page, site.server);
    await stays(page);
    site.folder.write('a.css', 'p { width: 2px }');
    await see(page, width, '2px');
  });
}

test('a frame that a link has led to a page of its own is no concern of the page around it', async () => {
  await using site = await serve({
    'index.html': html('', '<iframe name=f></iframe><a target=f href=inner.html>x</a>'),
    'inner.html': html('<link rel=stylesheet href=a.css>'),
    'a.css': 'p { width: 1px }',
  });
  const page = await site.open();
  const inner = 'frames[0].document.querySelector("p")';
  const width = `${inner} && frames[0].getComputedStyle(${inner}).width`;
  await page.evaluate('document.querySelector("a").click()');
  await see(page, width, '1px');
  await until('the frame to listen', () => page.evaluate('Symbol.for("live-sse") in frames[0]'));
  site.folder.write('a.css', 'p { width: 2px }');
  await see(page, width, '2px');
  await heard(page, site.server);
  await stays(page);
});

test('only the frame whose page changed is reloaded', async () => {
  await using site = await serve({
    'index.html': html(
      '',
      '<iframe src=a.html></iframe><iframe src=b.html></iframe><iframe src=b.html></iframe>',
    ),
    'a.html': html('', 'a'),
    'b.html': html('', 'b'),
  });
  const page = await site.open();
  await page.evaluate('Array.from(frames).forEach((frame) => { frame.marker = 1 })');
  site.folder.write('b.html', html('<script></script>', 'new'));
  await see(page, 'Array.from(frames, (frame) => [frame.document.body.textContent, frame.marker ?? 0])', [
    ['a', 1],
    ['new', 0],
    ['new', 0],
  ]);
  await stays(page);
});

const XHTML = 'xmlns="http://www.w3.org/1999/xhtml"';

const unfound: Record<string, { path?: string; files: Record<string, string>; shown: string }> = {
  'a closed shadow root links': {
    files: {
      'index.html': html(
        '',
        `<div id=host></div><script>
          const root = host.attachShadow({ mode: 'closed' });
          root.innerHTML = '<link rel=stylesheet href=a.css><i></i>';
          window.node = root.querySelector('i')</script>`,
      ),
    },
    shown: 'getComputedStyle(node).color',
  },
  'an <?xml-stylesheet?> names': {
    path: 'x.xhtml',
    files: {
      'x.xhtml': `<?xml-stylesheet href="a.css"?><html ${XHTML}><head><title>t</title></head><body><i/></body></html>`,
    },
    shown: style('i', 'color'),
  },
};

for (const [name, { path, files, shown }] of Object.entries(unfound)) {
  test(`a stylesheet that ${name} reloads the page`, async () => {
    await using site = await serve({ ...files, 'a.css': 'i { color: rgb(1, 0, 0) }' });
    const page = await site.open(path);
    await see(page, shown, 'rgb(1, 0, 0)');
    site.folder.write('a.css', 'i { color: rgb(2, 0, 0) }');
    await reloads(page);
    await see(page, shown, 'rgb(2, 0, 0)');
  });
}

test('an SVG that is open by itself reloads', async () => {
  const drawing = (width: number) => svg(width).replace('/>', '><path d="M0 0"/></svg>');
  await using site = await serve({ 'a.svg': drawing(1) });
  const page = await site.open('a.svg');
  site.folder.write('a.svg', drawing(2));
  await reloads(page);
  await see(page, 'document.documentElement.getAttribute("width")', '2');
});

const noDrops = 'it does not say that its timeline has left something out';

except({ firefox: noDrops, webkit: noDrops }, test)(
  'a page that has loaded more than its timeline holds reloads for any file',
  async () => {
    const script = `<script>
      performance.setResourceTimingBufferSize(1);
      performance.onresourcetimingbufferfull = () => setTimeout(() => fetch('full'));
      for (const name of ['a.json', 'b.json', 'c.json']) fetch(name)</script>`;
    await using site = await serve({ 'index.html': html(script), 'd.json': '1' });
    let release = () => {};
    const full = new Promise<void>((resolve) => (release = resolve));
    // Our script comes too late to see them come.
    await using slow = await front(site.server, {
      answer: async ({ url }) => {
        if (url === '/full') release();
        if (url === '/__events/client.js') await full;
        return false;
      },
    });
    const page = await site.context.newPage();
    await page.goto(slow.url);
    await heard(page, site.server);
    await page.evaluate('window.marker = 1');
    site.folder.write('d.json', '2');
    await reloads(page);
  },
);

test("an event of the server's own type is one of the window", async () => {
  await using site = await serve({ 'index.html': html('') });
  const page = await site.open();
  await page.evaluate(
    'addEventListener("live-sse:clock", ({ detail, target }) => { window.clock = [detail, target === window] })',
  );
  site.server.send('clock', { now: [1, 'a\nb'] });
  await see(page, 'window.clock', [{ now: [1, 'a\nb'] }, true]);
});

test('the script runs once, however often it is there', async () => {
  await using site = await serve({ 'index.html': html('') });
  const page = await site.open();
  await page.evaluate('window.clocks = 0; addEventListener("live-sse:clock", () => window.clocks++)');
  await page.evaluate(`new Promise((resolve) => {
    const script = Object.assign(document.createElement('script'), { src: '/__events/client.js', onload: resolve });
    document.head.append(script);
  }).then(() => 0)`);
  site.server.send('clock', 1);
  await heard(page, site.server);
  assert.is(await look(page, 'clocks'), 1);
  await until('one stream', () => site.server.clients === 1);
});

test('a page comes back by itself when the server has started again, once', async () => {
  const port = await freePort();
  await using site = await serve({ 'index.html': html('', 'old') }, { port });
  const page = await site.open();
  await site.server.close();
  site.folder.write('index.html', html('', 'new'));
  passTick(site.folder.path);
  await using again = await start({ root: site.folder.path, port, host: '127.0.0.1' });
  let loads = 0;
  again.server.on('request', (req) => {
    if (req.url === '/' && req.headers['sec-fetch-dest'] === 'document') loads++;
  });
  await until('the client to be back', () => again.clients === 1, 2000);
  await see(page, 'document.body.textContent', 'new', 2500);
  await heard(page, again);
  assert.is(loads, 1);
  await until('one stream of the new page', () => again.clients === 1);
});

test('a page that has to be reloaded waits for a server that is away', async () => {
  const port = await freePort();
  await using site = await serve(
    { 'index.html': html('<script src=a.js></script>', 'old'), 'a.js': '' },
    { port },
  );
  // Told, but gone before the page can leave: it asks for the server first.
  let gone = false;
  let asked = 0;
  await using network = await front(site.server, {
    answer: (req, res) => {
      const isCheck = gone && /^\/(__events\/client\.js\?\d+)?$/.test(req.url ?? '');
      if (isCheck) asked++;
      if (isCheck) res.destroy();
      return isCheck;
    },
  });
  const page = await site.context.newPage();
  await page.goto(network.url);
  await heard(page, site.server);
  await page.evaluate('window.marker = 1');
  gone = true;
  site.server.reload('/a.js');
  await until('the page to ask for the server', () => asked > 0);
  const bar = 'document.querySelector("live-sse-bar")?.shadowRoot.textContent';
  await see(page, bar, 'The new page does not come. It is shown once that is mended.');
  await stays(page);
  await site.server.close();
  gone = false;
  site.folder.write('index.html', html('<script src=a.js></script>', 'new'));
  await using again = await start({ root: site.folder.path, port, host: '127.0.0.1' });
  await see(page, 'document.body.textContent', 'new');
  await heard(page, again);
});

test('a page that would be empty is not left for: a bar says so until it is mended', async () => {
  await using site = await serve({ 'index.html': html('<script src=a.js></script>', 'old'), 'a.js': '' });
  const page = await site.open();
  site.folder.write('index.html', ' ');
  await see(
    page,
    'document.querySelector("live-sse-bar")?.shadowRoot.textContent',
    'The new page is empty. It is shown once that is mended.',
  );
  await stays(page);
  site.folder.write('index.html', html('<script src=a.js></script>', 'merged'));
  await see(page, '[document.body.textContent, document.querySelector("live-sse-bar")]', ['merged', null]);
  await stays(page);
  site.folder.write('index.html', ' ');
  await see(page, 'document.querySelector("live-sse-bar")?.role', 'status');
  site.folder.write('index.html', html('', 'new'));
  await reloads(page);
  await see(page, '[document.body.textContent, document.querySelector("live-sse-bar")]', ['new', null]);
});

test('the page may keep a change to itself', async () => {
  await using site = await serve({
    'index.html': html('<link rel=stylesheet href=a.css><script src=a.js></script><img src=i.svg>'),
    'a.css': 'p { color: rgb(1, 0, 0) }',
    'a.js': '1',
    'i.svg': '<svg xmlns="http://www.w3.org/2000/svg"/>',
  });
  const page = await site.open();
  await page.evaluate(`
    window.asked = [];
    addEventListener('live-sse:change', (event) => { asked.push(event.detail); if (window.keeps) event.preventDefault(); });
    window.keeps = true`);
  site.folder.write('a.css', 'p { color: rgb(2, 0, 0) }');
  await see(page, 'asked', [{ actions: ['css'], paths: ['/a.css'] }]);
  site.folder.write('a.js', '2');
  await see(page, 'asked.at(-1)', { actions: ['reload'], paths: ['/a.js'] });
  site.folder.write(
    'index.html',
    html('<link rel=stylesheet href=a.css><script src=a.js></script><img src=i.svg>', '<p>2'),
  );
  await see(page, 'asked.at(-1)', { actions: ['html'], paths: ['/index.html'] });
  site.folder.write('i.svg', '<svg xmlns="http://www.w3.org/2000/svg" width="1"/>');
  await see(page, 'asked.at(-1)', { actions: ['assets'], paths: ['/i.svg'] });
  await stays(page);
  assert.is(await look(page, style('p', 'color')), 'rgb(1, 0, 0)');
  assert.is(await look(page, 'document.body.innerText.trim()'), 'text');
  await page.evaluate('window.keeps = false');
  site.folder.write('a.css', 'p { color: rgb(3, 0, 0) }');
  await see(page, style('p', 'color'), 'rgb(3, 0, 0)');
  site.folder.write('a.js', '3');
  await reloads(page);
});

test('the page hears a second time of an edit that cannot be merged, and may keep the reload to itself', async () => {
  const body = (n: number) => html(`<script src=${n}.js></script>`, `<p id=p>${n}</p>`);
  const scripts = Object.fromEntries([1, 2, 3].map((n) => [`${n}.js`, `window.version = ${n}`]));
  await using site = await serve({ ...scripts, 'index.html': body(1) });
  const page = await site.open();
  await page.evaluate(`
    window.asked = [];
    addEventListener('live-sse:change', (event) => {
      asked.push(event.detail);
      if (event.detail.actions[0] === 'reload' && !window.gives) event.preventDefault();
    })`);
  const twice = ['html', 'reload'].map((action) => ({ actions: [action], paths: ['/index.html'] }));
  site.folder.write('index.html', body(2));
  await see(page, 'asked', twice);
  await heard(page, site.server);
  assert.equal(await look(page, '[marker, version, p.textContent]'), [1, 1, '1']);
  await page.evaluate('window.gives = true');
  site.folder.write('index.html', body(3));
  await reloads(page);
  await see(page, '[version, p.textContent]', [3, '3']);
});

test('the listener in the README keeps the levels of a game', async () => {
  const readme = readFileSync(new URL('../../README.md', import.meta.url), 'utf8');
  const code = blocksOf(readme).find(({ code }) =>
    code.startsWith("addEventListener('live-sse:change'"),
  )?.code;
  assert.ok(code);
  const script = `<script>${code}</script><script>fetch('level-1.json'); fetch('other.json')</script>`;
  await using site = await serve({ 'index.html': html(script), 'level-1.json': '1', 'other.json': '1' });
  const page = await site.open();
  const loaded =
    'performance.getEntriesByType("resource").filter(({ name }) => name.endsWith(".json")).length';
  await see(page, loaded, 2); // it is known to use them
  await page.evaluate('window.said = []; console.log = (text) => said.push(text)');
  site.folder.write('level-1.json', '2');
  await see(page, 'said', ['loading the level again']);
  await stays(page);
  site.folder.write('other.json', '2');
  await reloads(page);
});

for (const [kinds, expected] of [
  [true, { css: 'reloaded', html: 'reloaded', place: false }],
  [['html'], { css: 'swapped', html: 'reloaded', place: true }],
  [['css', 'place'], { css: 'reloaded', html: 'merged', place: false }],
] as const) {
  test(`start({ reloadOnly: ${JSON.stringify(kinds)} }) keeps pages from doing that in place`, async () => {
    const body = (text: string) => `<p id=p>${text}</p><details id=d><summary>s</summary>x</details>`;
    await using site = await serve(
      {
        'index.html': html('<link rel=stylesheet href=a.css>', body('one')),
        'a.css': 'p { color: rgb(1, 0, 0) }',
      },
      { reloadOnly: kinds },
    );
    const page = await site.open();
    const marker = async (done: string) => ((await look(page, 'window.marker')) === 1 ? done : 'reloaded');
    site.folder.write('a.css', 'p { color: rgb(2, 0, 0) }');
    await see(page, style('p', 'color'), 'rgb(2, 0, 0)');
    const css = await marker('swapped');
    await page.evaluate('window.marker = 1');
    site.folder.write('index.html', html('<link rel=stylesheet href=a.css>', body('two')));
    await see(page, 'p.textContent', 'two');
    const merged = await marker('merged');
    // What the reload before has kept is back.
    const isKept = 'Object.keys(sessionStorage).some((key) => key.includes(":place"))';
    await see(page, `document.readyState === "complete" && !${isKept}`, true);
    await heard(page, site.server);
    await page.evaluate('d.open = true; window.marker = 1');
    site.server.reload();
    await reloads(page);
    if (expected.place) await see(page, 'd.open', true);
    assert.equal({ css, html: merged, place: await look(page, 'd.open') }, expected);
  });
}

test('of a page with hundreds of loads each is known, also those that a browser would tell of no more', async () => {
  const script = `const loads = Array.from({ length: 300 }, (_, i) => fetch('data.json?' + i));
    Promise.all(loads).then(() => fetch('a.svg')).then(() => { window.done = 1 })`;
  await using site = await serve({
    'index.html': html(`<script>${script}</script>`, '<img src=a.svg>'),
    'data.json': '{}',
    'a.svg': '<svg xmlns="http://www.w3.org/2000/svg"/>',
    'other.js': '1',
  });
  const page = await site.open();
  await see(page, 'window.done', 1);
  const saved = changes(site.server, 1);
  site.folder.write('other.js', '2');
  await saved;
  await heard(page, site.server);
  await stays(page);
  // What a script has fetched it may show in any way.
  site.folder.write('a.svg', '<svg xmlns="http://www.w3.org/2000/svg" width="1"/>');
  await reloads(page);
});

test('start({ reloadOnly: ["assets"] }) keeps pages from swapping images, and from nothing else', async () => {
  await using site = await serve(
    {
      'index.html': html('<link rel=stylesheet href=a.css>', '<p></p><img id=a src=a.svg>'),
      'a.css': 'p { width: 1px }',
      'a.svg': svg(1),
    },
    { reloadOnly: ['assets'] },
  );
  const page = await site.open();
  site.folder.write('a.css', 'p { width: 2px }');
  await see(page, style('p', 'width'), '2px');
  await stays(page);
  site.folder.write('a.svg', svg(2));
  await reloads(page);
  await see(page, 'a.naturalWidth', 2);
});

test('a page with a stale stamp is reloaded once', async () => {
  await using site = await serve({ 'index.html': html('') });
  site.server.reload('/index.html');
  let loads = 0;
  await using cache = await front(site.server, {
    answer: (req, res) => {
      if (req.url !== '/') return false;
      loads++;
      res.setHeader('Content-Type', 'text/html');
      res.end(
        '<!doctype html><script async src="/__events/client.js" data-id="1-7" data-file="/index.html"></script>',
      );
      return true;
    },
  });
  const page = await site.context.newPage();
  await page.goto(cache.url);
  await until('the reload', () => loads === 2);
  await heard(page, site.server);
  await heard(page, site.server);
  assert.is(loads, 2);
});

test('a page whose load changes one of its files is not reloaded for ever', async () => {
  const listen = '<script>console.warn = (text) => { sessionStorage.warned = text }</script>';
  await using site = await serve({ 'index.html': html(`${listen}<script src=a.js></script>`), 'a.js': '' });
  const page = await site.context.newPage();
  let loads = 0;
  site.server.server.on('request', (req) => {
    if (req.url !== '/' || req.headers['sec-fetch-dest'] !== 'document') return; // the page asks for itself, too
    loads++;
    setTimeout(() => site.server.reload('/a.js'), 20);
  });
  await page.goto(site.server.url);
  await see(page, 'sessionStorage.warned', 'live-sse: /a.js changes with each load', 30_000);
  // The first, three at once, and one when it had come to rest; a slow machine may take a second turn.
  const before = loads;
  assert.ok(before >= 5, `${before} loads`);
  await heard(page, site.server);
  assert.is(loads, before);
});

test('nor is one that waits for that file for so long that it is not young any more', async () => {
  const listen = '<script>console.warn = (text) => { sessionStorage.warned = text }</script>';
  await using site = await serve({
    'index.html': html(`${listen}<script>fetch('data.json')</script>`),
    'data.json': '',
  });
  let loads = 0;
  await using slow = await front(site.server, {
    answer: async (req) => {
      if (req.url !== '/data.json') return false;
      loads++;
      setTimeout(() => site.server.reload('/data.json'), 100);
      await new Promise((resolve) => setTimeout(resolve, 1100));
      return false;
    },
  });
  const page = await site.context.newPage();
  await page.goto(slow.url);
  await see(page, 'sessionStorage.warned', 'live-sse: /data.json changes with each load', 30_000);
  const before = loads;
  assert.ok(before >= 5, `${before} loads`);
  await heard(page, site.server);
  assert.is(loads, before);
});

test('nor is one that nobody sees: it comes to rest, and shows what is there when it is seen', async () => {
  // The drivers hide no page.
  const unseen =
    '<script>Object.defineProperty(document, "hidden", { get: () => !sessionStorage.seen })</script>';
  await using site = await serve({ 'index.html': html(`${unseen}<script src=a.js></script>`), 'a.js': '' });
  const page = await site.context.newPage();
  const loads: number[] = [];
  site.server.server.on('request', (req) => {
    if (req.url !== '/') return;
    loads.push(performance.now());
    if (loads.length < 10) setTimeout(() => site.server.reload('/a.js'), 20);
  });
  await page.goto(site.server.url);
  await until('rest', () => performance.now() - (loads.at(-1) ?? Infinity) > 4000, 30_000);
  const before = loads.length;
  assert.ok(before > 1 && before < 10, `${before} loads`);
  await page.evaluate(`sessionStorage.seen = 1; document.dispatchEvent(new Event('visibilitychange'))`);
  await until('the page to be loaded anew', () => loads.length > before);
});

test('what could not be shown is shown beside what has come meanwhile', async () => {
  await using site = await serve({
    'index.html': html('<link rel=stylesheet href=a.css><link rel=stylesheet href=b.css>'),
    'a.css': 'p { width: 1px }',
    'b.css': 'p { height: 1px }',
  });
  let refuse: (() => void) | undefined;
  await using slow = await front(site.server, {
    answer: async ({ url = '' }, res) => {
      if (!url.includes('change.js?0')) return false;
      await new Promise<void>((resolve) => (refuse = resolve));
      res.writeHead(503).end();
      return true;
    },
  });
  const page = await site.context.newPage();
  await page.goto(slow.url);
  await heard(page, site.server);
  site.folder.write('a.css', 'p { width: 2px }');
  const fail = await until('the part that is needed to be asked for', () => refuse);
  const saved = changes(site.server, 1);
  site.folder.write('b.css', 'p { height: 2px }');
  await saved;
  await heard(page, site.server);
  fail();
  await see(page, `[${style('p', 'width')}, ${style('p', 'height')}]`, ['2px', '2px']);
});

test('behind a proxy that adds a prefix a page finds the stream and knows its files', async () => {
  await using site = await serve({
    'docs/index.html': html('<link rel=stylesheet href=../a.css>'),
    'a.css': 'p { width: 1px }',
  });
  await using proxy = await front(site.server, { prefix: '/prefix' });
  const page = await site.context.newPage();
  await page.goto(`${proxy.url}docs/`);
  await heard(page, site.server);
  await page.evaluate('window.marker = 1');
  site.folder.write('a.css', 'p { width: 2px }');
  await see(page, style('p', 'width'), '2px');
  await stays(page);
  site.folder.write('docs/index.html', html('', '<p>new</p>'));
  await see(page, 'document.querySelector("p").textContent', 'new');
  await page.close();
});

test.after(async () => {
  await browser[Symbol.asyncDispose]();
});
test.run();
