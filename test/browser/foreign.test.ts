// Pages that a server knows nothing of: another one sends them, from another origin, with our script tag in them.

import { readFile, stat } from 'node:fs/promises';
import { createServer } from 'node:http';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type LiveServer, type StartOptions, start } from '../../src/index.ts';
import { type Folder, folder, freePort, until } from '../harness.ts';
import { launch, type Page } from './engine.ts';
import { see, typeInto } from './site.ts';

const browser = await launch();
test.after(async () => {
  await browser[Symbol.asyncDispose]();
});

const TYPES: Record<string, string> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css',
  js: 'text/javascript',
  svg: 'image/svg+xml',
};

interface Site extends AsyncDisposable {
  readonly server: LiveServer;
  readonly folder: Folder;
  /** Origin of the server that sends the pages. */
  readonly origin: string;
  readonly notices: readonly string[];
  readonly requests: readonly string[];
  load(path?: string): Promise<Page>;
  /** Loads a page, waits until it hears the server, and marks it: a reload takes the mark away. */
  open(path?: string): Promise<Page>;
}

/** Two servers of one folder: live-sse, and one that lets browsers keep what they have for days. */
async function serve(
  files: Record<string, string>,
  options: (origin: string) => StartOptions = (origin) => ({ cors: [origin] }),
): Promise<Site> {
  const site = folder(files);
  const requests: string[] = [];
  let script = '';
  const other = createServer(async (req, res) => {
    const { pathname } = new URL(req.url ?? '', 'http://x');
    requests.push(pathname);
    const file = site.file(pathname === '/' ? 'index.html' : pathname.slice(1));
    const type = TYPES[file.replace(/.*\./, '')];
    if (!type || !(await stat(file).catch(() => undefined))) return void res.writeHead(404).end();
    const text = await readFile(file, 'utf8');
    res.writeHead(200, { 'content-type': type, 'last-modified': 'Mon, 01 Jan 2024 00:00:00 GMT' });
    res.end(text.replace('<head>', `<head>${script}`));
  });
  const port = await freePort(); // browsers keep what came from there
  await new Promise<void>((resolve) => other.listen(port, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${port}`;
  const server = await start({
    root: site.path,
    port: await freePort(),
    host: '127.0.0.1',
    ...options(origin),
  });
  script = `<script src="${server.url}__events/client.js"></script>`;
  const notices: string[] = [];
  server.on('notice', (line) => notices.push(line));
  const context = await browser.newContext();
  const load = async (path = '/') => {
    const page = await context.newPage();
    await page.goto(origin + path);
    return page;
  };
  return {
    server,
    folder: site,
    origin,
    notices,
    requests,
    load,
    open: async (path) => {
      const page = await load(path);
      await mark(page, server);
      return page;
    },
    [Symbol.asyncDispose]: async () => {
      await context.close();
      await server.close();
      other.close();
      other.closeAllConnections();
      site[Symbol.dispose]();
    },
  };
}

let sentinels = 0;

/** Resolves when the page hears the server; it has the mark then that a reload takes away. */
async function mark(page: Page, server: LiveServer): Promise<void> {
  await heard(page, server);
  await page.evaluate('window.marker = 1');
}

async function heard(page: Page, server: LiveServer): Promise<void> {
  const number = ++sentinels;
  const listen = `addEventListener('live-sse:sentinel', ({ detail }) => { window.heard = detail })`;
  await until('the page to hear of an event', async () => {
    server.send('sentinel', number);
    return page
      .evaluate(`(window.heard ??= (${listen}, 0)) === ${number}`)
      .catch(() => false) as Promise<boolean>;
  });
}

const html = (head: string, body = '<p id=p>text</p>') =>
  `<!doctype html><html><head><title>t</title>${head}</head><body>${body}</body></html>`;
const color = 'getComputedStyle(p).color';
const svg = (width: number) => `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="1"/>`;
const reloads = (page: Page) =>
  see(page, 'document.readyState === "complete" && window.marker === undefined', true);

test('a page of another server gets its stylesheets and images in place', async () => {
  await using site = await serve({
    'index.html': html('<link rel=stylesheet href=/css/a.css>', '<p id=p>text</p><img id=i src=/i.svg>'),
    'css/a.css': 'p { color: rgb(1, 0, 0) }',
    'i.svg': svg(1),
  });
  const page = await site.open();
  site.folder.write('css/a.css', 'p { color: rgb(2, 0, 0) }');
  await see(page, color, 'rgb(2, 0, 0)');
  site.folder.write('i.svg', svg(2));
  await see(page, 'i.naturalWidth', 2);
  assert.is(await page.evaluate('window.marker'), 1);
});

test('an edit of such a page reloads it, and it keeps its place', async () => {
  const body = '<input id=i><p id=p>text</p><div style="height:4000px"></div>';
  await using site = await serve({ 'index.html': html('', body), 'about.html': html('') });
  const page = await site.open();
  const about = await site.open('/about.html');
  await page.bringToFront();
  await typeInto(page, '#i', 'typed');
  await page.evaluate('scrollTo(0, 77)');
  site.folder.write('index.html', html('', body.replace('text', 'edited')));
  await see(page, 'p.textContent', 'edited');
  await see(page, '[i.value, scrollY, document.activeElement.id, window.marker ?? 0]', ['typed', 77, 'i', 0]);
  await about.bringToFront();
  await heard(about, site.server);
  assert.is(await about.evaluate('window.marker'), 1);
});

test('a script that the browser would have kept is the new one after the reload', async () => {
  await using site = await serve({
    'index.html': html('<script type=module src=/app.js></script>'),
    'app.js': 'import "/lib.js"; document.title += " a1"',
    'lib.js': 'document.title += " l1"',
  });
  const page = await site.open();
  await see(page, 'document.title', 't l1 a1');
  site.folder.write('app.js', 'import "/lib.js"; document.title += " a2"');
  await reloads(page);
  await see(page, 'document.title', 't l1 a2');
  await mark(page, site.server);
  site.folder.write('lib.js', 'document.title += " l2"');
  await reloads(page);
  await see(page, 'document.title', 't l2 a2');
});

test('a stylesheet that was shown in place is there after a reload too', async () => {
  const head = '<link rel=stylesheet href=/a.css>';
  await using site = await serve({ 'index.html': html(head), 'a.css': 'p { color: rgb(1, 0, 0) }' });
  const page = await site.open();
  site.folder.write('a.css', 'p { color: rgb(2, 0, 0) }');
  await see(page, color, 'rgb(2, 0, 0)');
  site.folder.write('index.html', html(head, '<p id=p>edited</p>'));
  await see(page, 'p.textContent', 'edited');
  await see(page, color, 'rgb(2, 0, 0)');
});

test('a stylesheet that one imports is the new one', async () => {
  await using site = await serve({
    'index.html': html('<link rel=stylesheet href=/a.css>'),
    'a.css': '@import "b.css";',
    'b.css': 'p { color: rgb(1, 0, 0) }',
  });
  const page = await site.open();
  await see(page, color, 'rgb(1, 0, 0)');
  for (const n of [2, 3]) {
    site.folder.write('b.css', `p { color: rgb(${n}, 0, 0) }`);
    await see(page, color, `rgb(${n}, 0, 0)`);
  }
});

test('reload() shows all of a page anew', async () => {
  await using site = await serve(
    { 'index.html': html('<script src=/app.js defer></script>'), 'app.js': 'document.title += 1' },
    (origin) => ({ cors: [origin], watch: false }),
  );
  const page = await site.open();
  site.folder.write('app.js', 'document.title += 2');
  site.server.reload();
  await reloads(page);
  await see(page, 'document.title', 't2');
});

test('a failed build is shown over such a page', async () => {
  await using site = await serve({ 'index.html': html('') });
  const page = await site.open();
  site.server.error('broken');
  await see(page, '!!document.querySelector("live-sse-overlay")', true);
});

test('such a page is told of what it missed while the server was away', async () => {
  const port = await freePort();
  await using site = await serve({ 'index.html': html('') }, (origin) => ({ cors: [origin], port }));
  const page = await site.open();
  await site.server.close();
  await using again = await start({ root: site.folder.path, port, host: '127.0.0.1', cors: [site.origin] });
  await reloads(page);
  await mark(page, again);
});

test('without --cors such a page is left alone, and the terminal says what to do', async () => {
  await using site = await serve({ 'index.html': html('') }, () => ({}));
  const page = await site.load();
  assert.equal(site.notices, [
    `Refused the client script to a page of ${site.origin}. If it is yours, start with --cors=${site.origin}`,
  ]);
  assert.is(await page.evaluate('Symbol.for("live-sse") in window'), false);
  assert.is(site.server.clients, 0);
});

test('a page that hides its address needs crossorigin on its tag', async () => {
  await using site = await serve({ 'index.html': html('') });
  site.folder.write(
    'hiding.html',
    '<!doctype html><meta name=referrer content=no-referrer><html><head></head>',
  );
  const page = await site.load('/hiding.html');
  assert.match(site.notices.join(), /does not say where it is from.*crossorigin/);
  await page.evaluate(`document.head.append(Object.assign(document.createElement('script'), {
    crossOrigin: '', src: '${site.server.url}__events/client.js' }))`);
  await mark(page, site.server);
});

test.run();
