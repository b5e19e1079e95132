// Pages that a back end makes of templates, with an edit of one: behind `proxy`, and in a server with live() in it.

import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import express from 'express';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Live, live, start } from '../../src/index.ts';
import { type Folder, folder, freePort, until, within } from '../harness.ts';
import { launch, type Page } from './engine.ts';
import { see, typeInto } from './site.ts';

const browser = await launch();
test.after(async () => {
  await browser[Symbol.asyncDispose]();
});

interface App extends AsyncDisposable {
  readonly hot: Live;
  readonly url: string;
  readonly views: Folder;
  /** Takes the back end away, and brings it back. */
  stop(): void;
  restart(): Promise<void>;
  /** Opens a page, waits until it hears the server, and marks it: a reload takes the mark away. */
  open(path?: string): Promise<Page>;
}

const TAIL = '<div style="height:4000px"></div>';
const VIEWS = {
  'page.ejs': `<!doctype html><html><head><title>t</title></head><body>
<h1 class="a"><%= name %></h1><form method=post action=/posted><input id=i name=i></form>
<ul id=built></ul>${TAIL}
<script>for (const n of [1, 2]) built.append(Object.assign(document.createElement('li'), { textContent: n }))</script>
</body></html>`,
  'list.ejs': `<!doctype html><html><head><title>l</title></head><body><p id=p>list</p></body></html>`,
  'part.ejs': 'part one',
  'fetching.ejs': `<!doctype html><html><head><title>f</title></head><body><p id=p></p>
<script>fetch('/part').then((part) => part.text()).then((text) => { p.textContent = text })</script></body></html>`,
};

/** What a template engine does: the file is read for each request. */
function app(views: Folder, first?: Live): Server {
  const routes = express().set('env', 'test'); // says what failed to the page alone
  if (first) routes.use(first.middleware);
  const render = async (name: string) => {
    const text = await readFile(views.file(`${name}.ejs`), 'utf8');
    if (text.includes('<%= broken %>')) throw new Error('broken is not defined');
    return text.replace('<%= name %>', 'Ünïcode');
  };
  routes.get('/streamed', async (_req, res) => {
    const text = await render('page');
    res.type('html').write(text.slice(0, 300));
    await new Promise(setImmediate);
    res.end(text.slice(300));
  });
  routes.get('/moved', async (_req, res) => {
    const text = await render('list');
    if (text.includes('away')) res.redirect('/fetching');
    else res.send(text);
  });
  routes.get('/helpful', async (_req, res) => {
    const page = await render('list').catch(
      (error: Error) => `<!doctype html><title>e</title>${error.message}`,
    );
    res.status(page.includes('<p') ? 200 : 500).send(page);
  });
  routes.get('/favicon.ico', (_req, res) => void res.end());
  routes.post('/posted', async (_req, res) => void res.send(await render('list')));
  routes.get('/:name', async (req, res) => void res.send(await render(req.params.name)));
  return createServer(routes);
}

/** Live-sse as a proxy in front of the app, or inside of it. */
async function run(way: 'proxy' | 'live'): Promise<App> {
  const views = folder(VIEWS);
  const inside = way === 'live' ? live({ watch: views.path }) : undefined;
  const backend = app(views, inside);
  const port = await freePort();
  const target = `http://127.0.0.1:${port}/`;
  const listen = async () => {
    backend.listen(port, '127.0.0.1');
    await once(backend, 'listening');
  };
  await listen();
  const proxy = inside
    ? undefined
    : await start({ proxy: target, watch: views.path, port: 0, host: '127.0.0.1' });
  const hot = inside ?? proxy;
  assert.ok(hot);
  await within('the watcher', hot.ready);
  const url = proxy?.url ?? target;
  const context = await browser.newContext();
  return {
    hot,
    url,
    views,
    stop: () => {
      backend.close();
      backend.closeAllConnections();
    },
    restart: listen,
    open: async (path = 'page') => {
      const page = await context.newPage();
      await page.goto(url + path);
      await mark(page, hot);
      return page;
    },
    [Symbol.asyncDispose]: async () => {
      await context.close();
      await hot.close();
      backend.close();
      backend.closeAllConnections();
      views[Symbol.dispose]();
    },
  };
}

let sentinels = 0;

async function mark(page: Page, hot: Live): Promise<void> {
  const number = ++sentinels;
  const listen = `addEventListener('live-sse:sentinel', ({ detail }) => { window.heard = detail })`;
  await until('the page to hear of an event', async () => {
    hot.send('sentinel', number);
    return page
      .evaluate(`(window.heard ??= (${listen}, 0)) === ${number}`)
      .catch(() => false) as Promise<boolean>;
  });
  await page.evaluate('window.marker = 1');
}

const stays = (page: Page) => see(page, 'window.marker', 1);
const reloads = (page: Page) =>
  see(page, 'document.readyState === "complete" && window.marker === undefined', true);

/** Resolves when the page has fetched itself this often to compare. */
const compared = (page: Page, times: number) =>
  see(
    page,
    `performance.getEntriesByType('resource').filter(({ name }) => name === location.href).length >= ${times}`,
    true,
  );

for (const [way, path] of [
  ['proxy', 'page'],
  ['proxy', 'streamed'],
  ['live', 'page'],
  ['live', 'streamed'],
] as const) {
  test(`an edit of a template is merged into its page (${way}, /${path})`, async () => {
    await using site = await run(way);
    const page = await site.open(path);
    await typeInto(page, '#i', 'typed');
    await page.evaluate(
      'i.setSelectionRange(1, 3); scrollTo(0, 77); document.querySelector("h1").classList.add("b")',
    );
    const state =
      '[marker, i.value, document.activeElement.id, i.selectionStart, i.selectionEnd, scrollY, built.innerHTML]';
    const before = await page.evaluate(state);

    for (const [n, name] of ['One', 'Two'].entries()) {
      const text = VIEWS['page.ejs'].replace('<%= name %>', name).replace('"a"', `"c${n}"`);
      site.views.write('page.ejs', text);
      await see(page, 'document.querySelector("h1").textContent', name);
      await see(page, 'document.querySelector("h1").className', `b c${n}`);
    }
    assert.equal(await page.evaluate(state), before);
  });
}

test('an edit of the script in a template reloads its page, which keeps its place', async () => {
  await using site = await run('proxy');
  const page = await site.open();
  await typeInto(page, '#i', 'typed');
  await page.evaluate('scrollTo(0, 77)');
  site.views.write('page.ejs', VIEWS['page.ejs'].replace('[1, 2]', '[1, 2, 3]'));
  await reloads(page);
  await see(page, '[i.value, scrollY, built.children.length]', ['typed', 77, 3]);
});

test('an edit of another template does nothing, unless a script of the page may have fetched it', async () => {
  await using site = await run('proxy');
  const page = await site.open('list');
  const fetching = await site.open('fetching');
  await see(fetching, 'p.textContent', 'part one');
  site.views.write('part.ejs', 'part two');
  await reloads(fetching);
  await see(fetching, 'p.textContent', 'part two');
  await compared(page, 1);
  await stays(page);
});

test('a file that no template engine reads reloads every page', async () => {
  await using site = await run('proxy');
  const page = await site.open('list');
  site.views.write('model.js', '1');
  await reloads(page);
});

test('reload() reloads a page that is the same as before', async () => {
  await using site = await run('live');
  const page = await site.open('list');
  site.hot.reload();
  await reloads(page);
});

test('a template that is broken shows the error over the page, which stays', async () => {
  await using site = await run('proxy');
  const page = await site.open();
  await typeInto(page, '#i', 'typed');
  const overlay = 'document.querySelector("live-sse-overlay")?.shadowRoot.textContent ?? ""';
  site.views.write('page.ejs', '<%= broken %>');
  await see(page, `/500 Internal Server Error.*broken is not defined\\n/s.test(${overlay})`, true);
  site.views.write('page.ejs', VIEWS['page.ejs']);
  await see(page, overlay, '');
  site.views.write('page.ejs', VIEWS['page.ejs'].replace('<%= name %>', 'mended'));
  await see(page, '[marker, i.value, document.querySelector("h1").textContent]', [1, 'typed', 'mended']);
});

test('an error page that can come back by itself is shown, and so is the page when it is mended', async () => {
  await using site = await run('live');
  const page = await site.open('helpful');
  site.views.write('list.ejs', '<%= broken %>');
  await see(page, 'document.body.textContent', 'broken is not defined');
  site.views.write('list.ejs', VIEWS['list.ejs'].replace('>list', '>mended'));
  await see(page, 'document.body.textContent', 'mended');
});

test('a page whose back end is away stays, says so, and is loaded anew when that is back', async () => {
  await using site = await run('proxy');
  const page = await site.open();
  await typeInto(page, '#i', 'typed');
  site.stop();
  site.hot.reload();
  const bar = 'document.querySelector("live-sse-bar")?.shadowRoot.textContent';
  await see(page, bar, 'The new page was answered with 502. It is shown once that is mended.');
  await stays(page);
  site.views.write('page.ejs', VIEWS['page.ejs'].replace('<%= name %>', 'back'));
  await site.restart();
  await see(page, '[window.marker ?? 0, i.value, document.querySelector("h1").textContent]', [
    0,
    'typed',
    'back',
  ]);
});

test('a page that answers a form is never asked for by GET', async () => {
  await using site = await run('proxy');
  const page = await site.open();
  await page.evaluate('void document.forms[0].submit()');
  await see(page, 'p.textContent', 'list');
  assert.is(await page.evaluate('document.querySelector("script[data-id]").dataset.source'), undefined);
});

test('a page that is another by now is loaded, not merged', async () => {
  await using site = await run('live');
  const page = await site.open('moved');
  site.views.write('list.ejs', VIEWS['list.ejs'].replace('>list', '>away'));
  await see(page, 'location.pathname', '/fetching');
  const moved = await site.open('list');
  await moved.evaluate('history.pushState({}, "", "/page")');
  site.views.write('list.ejs', VIEWS['list.ejs']);
  await reloads(moved);
});

test.run();
