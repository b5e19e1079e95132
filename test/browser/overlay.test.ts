import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Failure } from '../../src/events.ts';
import { type LiveServer, type StartOptions, start } from '../../src/index.ts';
import { paintFailure } from '../../src/paint.ts';
import { type Folder, folder, until, within } from '../harness.ts';
import { except, launch, type Page, puppeteerOf } from './engine.ts';

const E = '\x1b[';

const bundle = await build({
  entryPoints: [fileURLToPath(new URL('../../client/overlay.ts', import.meta.url))],
  bundle: true,
  minify: true,
  format: 'esm',
  target: 'es2020',
  charset: 'utf8',
  write: false,
});
const script = bundle.outputFiles[0]?.contents ?? new Uint8Array();

interface Body {
  readonly type?: string;
  readonly headers?: Record<string, string>;
  readonly text: string;
}

const pages: Record<string, Body> = {
  '/': { text: '<!doctype html><title>Page</title><input id="field" autofocus><p>Text</p>' },
  '/empty': { text: '' },
  '/quirks': { text: 'just text' },
  '/frameset': { text: '<html><head></head><frameset cols="*"><frame src="/empty"></frameset></html>' },
  '/rtl': { text: '<!doctype html><html dir="rtl"><body>x' },
  '/xhtml': {
    type: 'application/xhtml+xml',
    text: '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>x</title></head></html>',
  },
  '/svg': { type: 'image/svg+xml', text: '<svg xmlns="http://www.w3.org/2000/svg"></svg>' },
  '/strict': {
    headers: {
      'content-security-policy':
        "default-src 'none'; script-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'",
    },
    text: '<!doctype html><p>x',
  },
  '/weird': {
    text: `<!doctype html><style>
      * { all: unset !important; display: none !important; opacity: 0 !important; color: lime !important;
        visibility: hidden !important; transform: scale(0.1) !important; filter: blur(9px) !important;
        position: static !important; width: 1px !important; height: 1px !important; --l: 0 !important;
        font: 90px fantasy !important; pointer-events: none !important; clip-path: circle(0) !important }
      html { writing-mode: vertical-rl; font-size: 1px; letter-spacing: 9px; text-transform: uppercase }
    </style><p>x`,
  },
  '/hidden': { text: '<!doctype html><html style="display:none"><p>x' },
};

interface Context {
  server: Server;
  url: string;
  page: Page;
  newPage(): Promise<Page>;
  /** What the buttons have asked for, as the server heard it. */
  opened: unknown[];
  /** What the page's console says. */
  problems: string[];
  end(): PromiseLike<void>;
}

const test = suite<Context>('overlay');

test.before(async (context) => {
  context.problems = [];
  context.opened = [];
  context.server = createServer((req, res) => {
    if (req.url === '/overlay.js') {
      res.setHeader('content-type', 'text/javascript').end(script);
      return;
    }
    if (req.method === 'POST' && req.url === '/open') {
      assert.is(req.headers['content-type'], 'application/json');
      req.on('data', (body: Buffer) => {
        const [file] = context.opened[context.opened.push(JSON.parse(String(body))) - 1] as [string];
        res.end(file === 'gone.js' ? 'Cannot open "gone.js"' : '');
      });
      return;
    }
    // Everything else a browser asks for (an icon) is an empty page.
    const { type = 'text/html', headers = {}, text } = pages[req.url ?? ''] ?? { text: '' };
    for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
    res.setHeader('content-type', `${type}; charset=utf-8`).end(text);
  });
  await new Promise<void>((resolve) => context.server.listen(0, '127.0.0.1', resolve));
  context.url = `http://127.0.0.1:${(context.server.address() as AddressInfo).port}`;
  const browser = await launch();
  context.newPage = browser.newPage;
  context.page = await browser.newPage();
  // WebKit's driver tells nothing of the console.
  // Firefox says that a page's policy does not let it ask for the icon.
  const note = (text: string) => text.includes('favicon.ico') || context.problems.push(text);
  context.page.puppeteer?.on('pageerror', (error) => note(String(error)));
  context.page.puppeteer?.on('console', (message) => note(message.text()));
  context.end = () => browser[Symbol.asyncDispose]();
});

test.after(async ({ server, end }) => {
  await end();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

const failure: Failure = {
  message: 'Unexpected ";"',
  file: 'src/app.ts',
  line: 12,
  column: 5,
  frame: '  11 | let a;\n> 12 | let ;\n     |     ^\n  13 | let c;',
};

const HOST = `document.querySelector('live-sse-overlay')`;
const DIALOG = `${HOST}?.shadowRoot.querySelector('dialog')`;

/** Loads the page at `path` and shows a failure there. */
async function show(context: Context, path: string, what: Failure): Promise<void> {
  context.opened = [];
  await context.page.goto(context.url + path);
  // It is there before its first frame has given the focus to its field.
  if (path === '/') await becomes(context.page, 'document.activeElement === field');
  await showHere(context.page, what);
}

/** As the server tells of it. */
const told = (what: Failure) => ({ ...what, painted: paintFailure(what) });

function showHere(page: Page, what: Failure): Promise<unknown> {
  return evaluate(
    page,
    `import('/overlay.js').then((overlay) => {
      globalThis.overlay = overlay;
      overlay.showFailure(${JSON.stringify(told(what))});
    })`,
  );
}

const evaluate = (page: Page, code: string): Promise<unknown> => within(code, page.evaluate(code));

/** Waits until an expression is true in the page. */
const becomes = (page: Page, code: string) => page.becomes(code, 5000);

test('shows message, place and code; a second failure replaces it; hideFailure() removes it', async (context) => {
  const { page } = context;
  await show(context, '/', failure);
  const text = await evaluate(page, `${DIALOG}.innerText`);
  // Engines differ in the empty lines between blocks.
  assert.is(
    String(text).replace(/\n+/g, '\n'),
    'Close\nUnexpected ";"\nsrc/app.ts:12:5\n  11 | let a;\n> 12 | let ;\n     |     ^\n  13 | let c;\nEsc or the next good build closes this',
  );
  await showHere(page, { message: 'Another' });
  assert.is(await evaluate(page, `document.querySelectorAll('live-sse-overlay').length`), 1);
  assert.is(await evaluate(page, `${DIALOG}.querySelector('h1').textContent`), 'Another');
  // The first one's `close` event comes a task later.
  await evaluate(page, `new Promise((resolve) => setTimeout(resolve))`);
  assert.is(await evaluate(page, `${DIALOG}.open`), true);
  assert.is(await evaluate(page, `overlay.hideFailure(), overlay.hideFailure(), ${HOST}`), null);
  assert.is(await evaluate(page, `document.documentElement.getAttribute('style') ?? ''`), '');
});

const noTree = 'its driver hands out no accessibility tree';

except({ firefox: noTree, webkit: noTree }, test)('is an alert dialog with its name', async (context) => {
  await show(context, '/', failure);
  const tree = await puppeteerOf(context.page).accessibility.snapshot();
  const dialog = tree?.children?.find(({ role }) => role === 'alertdialog');
  assert.equal([dialog?.name, dialog?.modal, dialog?.focused], [failure.message, true, true]);
});

test('takes the focus and gives it back', async (context) => {
  const { page } = context;
  await show(context, '/', failure);
  assert.is(await evaluate(page, `${HOST}.shadowRoot.activeElement === ${DIALOG}`), true);
  await showHere(page, { message: 'Another' });
  await evaluate(page, 'overlay.hideFailure()');
  assert.is(await evaluate(page, 'document.activeElement.id'), 'field');
});

for (const [name, act] of [
  ['Escape', (page: Page) => page.press('Escape')],
  ['its button', (page: Page) => page.click('live-sse-overlay >>> .x')],
  [
    'the keyboard on its button',
    async (page: Page) => {
      await page.press('Tab');
      await page.press('Enter');
    },
  ],
] as const) {
  test(`${name} closes it`, async (context) => {
    const { page } = context;
    await show(context, '/', failure);
    await act(page);
    await becomes(page, `!${HOST}`);
    assert.is(await evaluate(page, 'document.activeElement.id'), 'field');
    await showHere(page, failure);
    assert.is(await evaluate(page, `${DIALOG}.open`), true);
  });
}

test('is above a modal dialog of the page, usable, and Escape leaves that one open', async (context) => {
  const { page, url } = context;
  context.opened = [];
  await page.goto(`${url}/`);
  await evaluate(
    page,
    `document.body.innerHTML = '<dialog id="own" style="z-index:2147483647;inset:0"><input></dialog>'; own.showModal()`,
  );
  await showHere(page, failure);
  assert.is(await evaluate(page, `document.elementFromPoint(400, 60) === ${HOST}`), true);
  await page.click('live-sse-overlay >>> .at button');
  await until('the place to be asked for', () => context.opened.length > 0);
  assert.equal(context.opened, [['src/app.ts', 12, 5]]);
  await page.press('Escape');
  await becomes(page, `!${HOST}`);
  assert.is(await evaluate(page, `own.open && document.activeElement.tagName`), 'INPUT');
});

test("keeps its keys from the page's shortcuts", async (context) => {
  const { page, url } = context;
  await page.goto(`${url}/`);
  await evaluate(page, `heard = []; document.onkeydown = (event) => heard.push(event.key); 0`);
  await showHere(page, failure);
  await page.press('j');
  await page.press('Escape');
  await becomes(page, `!${HOST}`);
  await page.press('k');
  assert.equal(await evaluate(page, 'heard'), ['k']);
});

/** What a reader sees: the place and colours of the dialog, the text of its heading. */
const LOOK = `(() => {
  const dialog = ${DIALOG};
  const { x, width, top } = dialog.getBoundingClientRect();
  const { color, backgroundColor, fontSize, direction, opacity, visibility } = getComputedStyle(dialog);
  const { letterSpacing, textTransform, writingMode } = getComputedStyle(dialog.querySelector('h1'));
  const hit = ${HOST}.shadowRoot.elementFromPoint(x + width / 2, top + 10);
  return { x, width, color, backgroundColor, fontSize, direction, opacity, visibility, letterSpacing, textTransform,
    writingMode, hit: dialog.contains(hit) };
})()`;

for (const path of Object.keys(pages)) {
  if (path === '/svg') continue;
  test(`looks the same on ${path}`, async (context) => {
    const { page } = context;
    context.problems.length = 0;
    await show(context, path, failure);
    assert.equal(await evaluate(page, LOOK), {
      x: 17,
      width: 766,
      color: 'rgb(0, 0, 0)',
      backgroundColor: 'rgb(255, 255, 255)',
      fontSize: '14px',
      direction: 'ltr',
      opacity: '1',
      visibility: 'visible',
      letterSpacing: 'normal',
      textTransform: 'none',
      writingMode: 'horizontal-tb',
      hit: true,
    });
    assert.is(await evaluate(page, `${HOST}.shadowRoot.activeElement === ${DIALOG}`), true);
    await evaluate(page, 'overlay.hideFailure()');
    assert.is(await evaluate(page, HOST), null);
    assert.equal(context.problems, []);
  });
}

test('is shown in a document without any element', async (context) => {
  const { page, url } = context;
  await page.goto(`${url}/`);
  await evaluate(page, 'document.documentElement.remove()');
  await showHere(page, failure);
  assert.is(await evaluate(page, `${DIALOG}.offsetHeight > 100`), true);
});

test('gives up on an SVG document, which is left as it was', async (context) => {
  const { page } = context;
  await show(context, '/svg', failure);
  assert.is(await evaluate(page, HOST), null);
});

test('a page that hid itself is hidden again', async (context) => {
  const { page } = context;
  await show(context, '/hidden', failure);
  await evaluate(page, 'overlay.hideFailure()');
  assert.is(await evaluate(page, 'getComputedStyle(document.documentElement).display'), 'none');
});

test('is shown anew after the page threw it out', async (context) => {
  const { page } = context;
  await show(context, '/', failure);
  await evaluate(page, `${HOST}.remove()`);
  await showHere(page, failure);
  assert.is(await evaluate(page, `${DIALOG}.open`), true);
});

test('falls back to a <style> element without constructed style sheets', async (context) => {
  const { page, url } = context;
  await page.goto(`${url}/`);
  await evaluate(page, 'delete globalThis.CSSStyleSheet');
  await showHere(page, failure);
  assert.is(await evaluate(page, `getComputedStyle(${DIALOG}).fontSize`), '14px');
});

test('follows light and dark', async (context) => {
  await using dark = await launch({ dark: true });
  const page = await dark.newPage();
  await show({ ...context, page }, '/', failure);
  const { color, backgroundColor } = (await evaluate(page, LOOK)) as Record<string, string>;
  const light = (text = '') => Number(/\d+/.exec(text)?.[0]);
  assert.ok(light(color) > 200 && light(backgroundColor) < 50, `${color} on ${backgroundColor}`);
});

test('shows text as text', async (context) => {
  const { page } = context;
  const evil = '<img src=x onerror="evil=1"></pre><script>evil=1</script>&amp;';
  await show(context, '/', { message: evil, file: evil, frame: evil, output: `${E}31m${evil}`, stack: evil });
  assert.is(await evaluate(page, `${DIALOG}.querySelectorAll('img, script').length`), 0);
  assert.is(await evaluate(page, `${DIALOG}.textContent.split(${JSON.stringify(evil)}).length`), 6);
  assert.is(await evaluate(page, 'globalThis.evil'), undefined);
});

/** The output as [text, classes, colour, background] of each run of letters. */
const RUNS = `[...${DIALOG}.querySelectorAll('pre span')].filter((span) => span.textContent).map((span) =>
  [span.textContent, span.className, span.style.color, span.style.backgroundColor])`;

test('shows the colours of an output', async (context) => {
  const output = `${E}31mred${E}1;44mbold${E}0m`;
  await show(context, '/strict', { message: 'Bad', output });
  assert.equal(await evaluate(context.page, RUNS), [
    ['red', '', 'oklch(var(--l) 0.14 25)', ''],
    ['bold', 's1', 'canvas', 'oklch(var(--l) 0.14 255)'],
  ]);
});

test('takes no more than a colour for a colour', async (context) => {
  const { page } = context;
  await show(context, '/', { message: 'Bad' });
  const run = { text: 'x', look: 's1', color: 'red;position:fixed', back: 'url(/evil)' };
  const painted = JSON.stringify({ message: 'Bad', painted: { output: [run] } });
  await evaluate(page, `overlay.showFailure(${painted})`);
  assert.equal(await evaluate(page, RUNS), [['x', 's1', '', '']]);
});

test('a place in the output is one button', async (context) => {
  const { page } = context;
  const output = `${E}96msrc/app.ts${E}0m:${E}93m3${E}0m:${E}93m7${E}0m - ${E}91merror`;
  await show(context, '/', { message: 'Bad', output });
  assert.is(await evaluate(page, `${DIALOG}.querySelectorAll('pre button').length`), 1);
  assert.is(await evaluate(page, `${DIALOG}.querySelector('pre').textContent`), 'src/app.ts:3:7 - error');
  await page.click('live-sse-overlay >>> pre button');
  await until('the place to be asked for', () => context.opened.length > 0);
  assert.equal(context.opened, [['src/app.ts', 3, 7]]);
});

test('the keyboard reaches a place; what the server says is shown beside it', async (context) => {
  const { page } = context;
  await show(context, '/', { message: 'Bad', file: 'gone.js', line: 3 });
  for (const key of ['Tab', 'Tab', 'Enter'] as const) await page.press(key);
  const place = `${DIALOG}.querySelector('.at').innerText`;
  await becomes(page, `${place} === 'gone.js:3 Cannot open "gone.js"'`);
  assert.equal(context.opened, [['gone.js', 3]]);
});

test('a long output is there at once', async (context) => {
  const { page } = context;
  const output = `${'a.'.repeat(4096)}\n${`${E}31ma${E}0m`.repeat(800)}\n`;
  await show(context, '/', { message: 'Bad', output });
  const ms = await evaluate(
    page,
    `(() => { const begin = performance.now(); overlay.showFailure(${JSON.stringify(told({ message: 'x', output }))}); return performance.now() - begin; })()`,
  );
  assert.ok(Number(ms) < 1000, `${ms} ms`);
});

// What follows is shown by a server of ours, in a page of its folder.

const HTML = (text: string) =>
  `<!doctype html><html><head><title>t</title></head><body>${text}</body></html>`;

/** Resolves when the page has got an event that is sent now, and shows the failure that it has heard of before. */
async function heard(page: Page, server: LiveServer): Promise<void> {
  const listen = `window.heard ??= (addEventListener('live-sse:sentinel', () => { window.heard = 2 }), 1)`;
  await until('the page to hear of an event', async () => {
    server.send('sentinel');
    return (await evaluate(page, listen).catch(() => 0)) === 2; // between two pages
  });
  // Had the page asked for this, it would have it by now, and a turn later it is shown.
  const part = `import('/__events/overlay.js?0')`;
  await evaluate(page, `${part}.then(() => new Promise((done) => setTimeout(done)))`);
}

async function visit({ page }: Context, site: Folder, options: StartOptions = {}): Promise<LiveServer> {
  const server = await start({ root: site.path, port: 0, host: '127.0.0.1', ...options });
  await page.goto(server.url);
  await page.evaluate('window.marker = 1');
  return server;
}

for (const [name, mend, marker] of [
  ['css()', (server: LiveServer) => server.css(), 1],
  ['reload()', (server: LiveServer) => server.reload(), undefined],
  [
    'POST /__events/failure of nothing',
    (server: LiveServer) => fetch(`${server.url}__events/failure`, { method: 'POST' }),
    1,
  ],
] as const) {
  test(`${name} takes it from the pages, for good`, async (context) => {
    const { page } = context;
    using site = folder({ 'index.html': HTML('x') });
    await using server = await visit(context, site);
    server.error(failure);
    await becomes(page, `${DIALOG}?.querySelector('h1').textContent === 'Unexpected ";"'`);
    await mend(server);
    await becomes(page, `!${HOST} && window.marker === ${marker} && document.readyState === 'complete'`);
    await page.reload();
    await heard(page, server);
    assert.is(await evaluate(page, HOST), null);
  });
}

test('start({ overlay: false }) shows none', async (context) => {
  const { page } = context;
  using site = folder({ 'index.html': HTML('x') });
  await using server = await visit(context, site, { overlay: false });
  server.error(failure);
  await heard(page, server);
  assert.is(await evaluate(page, HOST), null);
});

test('a run that fails is shown in each page, also one that comes later, until a good one', async (context) => {
  using site = folder({ 'src/index.html': HTML('one'), 'dist/other.html': '' });
  const [root, watch, source] = [site.file('dist'), site.file('src'), site.file('src/index.html')];
  const run = `! grep Bad '${source}' && cp '${source}' '${root}'`;
  await using _server = await visit(context, site, { root, watch, run });
  const pages = [context.page];
  const see = async (code: string) => {
    for (const page of pages) await becomes(page, code);
  };
  await see(`document.body.textContent === 'one'`);
  site.write('src/index.html', HTML('Bad'));
  const shows = (text: string) => `${DIALOG}?.querySelector('.output').textContent.includes('${text}')`;
  await see(shows('<body>Bad<'));
  const later = await context.newPage();
  await later.goto(await context.page.url());
  pages.push(later);
  await see(shows('<body>Bad<'));
  site.write('src/index.html', HTML('Bad again'));
  await see(shows('<body>Bad again<'));
  site.write('src/index.html', HTML('two'));
  await see(`!${HOST} && document.body.textContent === 'two'`);
  await later.close();
});

test.run();
