import type { Browser, BrowserContext, HTTPRequest, Page } from 'puppeteer-core';
import puppeteer from 'puppeteer-core';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type LiveServer, start } from '../../src/index.ts';
import { type Folder, folder, until } from '../harness.ts';
import { launch, provideChromium } from './chromium.ts';

// Puppeteer switches the back/forward cache off unless it is told not to.
const browser = await puppeteer.launch({
  executablePath: provideChromium(),
  headless: true,
  args: ['--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  ignoreDefaultArgs: ['--disable-back-forward-cache'],
});

interface Site extends AsyncDisposable {
  readonly server: LiveServer;
  readonly folder: Folder;
  readonly context: BrowserContext;
  open(path?: string): Promise<Page>;
}

const HTML = (text: string) =>
  `<!doctype html><html><head><link rel=stylesheet href=/a.css></head><body><p>${text}</p></body></html>`;
const CSS = (width: number) => `p { width: ${width}px }`;
const WIDTH = 'getComputedStyle(document.querySelector("p")).width';
const TEXT = 'document.querySelector("p").textContent';

async function serve(within: Browser = browser): Promise<Site> {
  const site = folder({ 'index.html': HTML('old'), 'b.html': HTML('b'), 'a.css': CSS(1) });
  const server = await start({ root: site.path, port: 0, host: '127.0.0.1' });
  const context = await within.createBrowserContext();
  return {
    server,
    folder: site,
    context,
    open: async (path = '') => {
      const page = await context.newPage();
      await page.goto(server.url + path);
      return page;
    },
    [Symbol.asyncDispose]: async () => {
      await context.close();
      await server.close();
      site[Symbol.dispose]();
    },
  };
}

async function see(page: Page, expression: string, expected: unknown, ms = 10_000): Promise<void> {
  let last: unknown;
  await until(
    `${expression} to be ${expected}`,
    async () => {
      last = await page.evaluate(expression).catch(() => undefined); // between two pages
      return last === expected;
    },
    ms,
  ).catch((error: Error) => {
    throw new Error(`${error.message}; it is ${last}`);
  });
}

const streams = (server: LiveServer, count: number, ms?: number) =>
  until(`${count} streams, there are ${server.clients}`, () => server.clients === count, ms);

test('12, 50 and 100 tabs share one stream and show each change', async () => {
  // A process for each tab would be most of the time that this takes.
  await using many = await launch(['--renderer-process-limit=4']);
  await using site = await serve(many.browser);
  let most = 0;
  site.server.server.on('request', () => {
    most = Math.max(most, site.server.clients);
  });
  const pages: Page[] = [];
  for (const count of [12, 50, 100]) {
    while (pages.length < count) pages.push(...(await Promise.all([site.open(), site.open()])));
    await streams(site.server, 1);
    site.folder.write('a.css', CSS(count));
    await Promise.all(pages.map((page) => see(page, WIDTH, `${count}px`, 30_000)));
    site.folder.write('index.html', HTML(`${count} tabs`));
    await Promise.all(pages.map((page) => see(page, TEXT, `${count} tabs`, 30_000)));
    assert.is(site.server.clients, 1);
  }
  assert.is(most, 1);
});

test('a tab that opens while an event is on its way misses nothing', async () => {
  await using site = await serve();
  const first = await site.open();
  await streams(site.server, 1);
  const page = await site.context.newPage();
  await page.setRequestInterception(true);
  let held: HTTPRequest | undefined;
  page.on('request', (request) => {
    if (!held && request.url().endsWith('/client.js')) held = request;
    else void request.continue();
  });
  const loading = page.goto(site.server.url);
  await see(page, TEXT, 'old');
  const script = await until('the client to be asked for', () => held);
  site.folder.write('index.html', HTML('new'));
  await see(first, TEXT, 'new');
  await script.continue();
  await loading.catch(() => {}); // the reload may come before the end of the load
  await see(page, TEXT, 'new');
  assert.is(site.server.clients, 1);
});

/** Ends the process of a page, and waits until it is gone. */
async function crash(page: Page): Promise<void> {
  const gone = new Promise((resolve) => page.once('error', resolve));
  page.goto('chrome://crash').catch(() => {}); // it never arrives
  await gone;
}

const endings: [string, (page: Page) => Promise<unknown>][] = [
  ['closed', (page) => page.close()],
  ['navigated away', (page) => page.goto('about:blank')],
  ['reloaded', (page) => page.reload()],
  ['crashed', crash],
  [
    'frozen',
    async (page) => {
      const session = await page.createCDPSession();
      await session.send('Page.setWebLifecycleState', { state: 'frozen' });
    },
  ],
];

for (const [name, end] of endings) {
  test(`the first tab is ${name}: the others go on`, async () => {
    await using site = await serve();
    const first = await site.open();
    const second = await site.open();
    await streams(site.server, 1);
    await end(first);
    site.folder.write('a.css', CSS(2));
    await see(second, WIDTH, '2px', 2000);
    site.folder.write('index.html', HTML('new'));
    await see(second, TEXT, 'new', 2000);
    await streams(site.server, 1);
  });
}

test('the stream ends with the last page', async () => {
  await using site = await serve();
  const pages = [await site.open(), await site.open()];
  await streams(site.server, 1);
  for (const page of pages) await page.close();
  await streams(site.server, 0, 5000);
});

test('50 quick navigations leave one stream', async () => {
  await using site = await serve();
  const page = await site.open();
  for (let i = 0; i < 50; i++) await page.goto(`${site.server.url}?${i}`, { waitUntil: 'domcontentloaded' });
  await streams(site.server, 1);
  site.folder.write('a.css', CSS(2));
  await see(page, WIDTH, '2px');
  assert.is(site.server.clients, 1);
});

test('a page from the back/forward cache is not stale', async () => {
  await using site = await serve();
  const page = await site.open();
  await streams(site.server, 1);
  for (const [i, change] of [
    () => site.folder.write('a.css', CSS(2)),
    () => site.folder.write('index.html', HTML('new')),
  ].entries()) {
    await page.evaluate(
      'window.marker = 1; addEventListener("pageshow", (event) => { window.persisted = event.persisted })',
    );
    await page.goto(`${site.server.url}b.html`);
    await streams(site.server, 1);
    change();
    await page.goBack();
    if (i === 0) {
      await see(page, WIDTH, '2px', 2000);
      assert.equal(await page.evaluate('[window.marker, window.persisted]'), [1, true]);
    } else await see(page, TEXT, 'new', 2000);
  }
});

test('the process of the worker is killed: its pages lose nothing', async () => {
  await using site = await serve();
  const first = await site.open();
  await streams(site.server, 1);
  const pages = [await site.open(), await site.open()];
  await crash(first); // the worker is in the process of the page that asked for it first
  await streams(site.server, 0);
  site.folder.write('a.css', CSS(2));
  // A page that nobody sees finds out when it is shown.
  for (const page of pages) {
    await page.bringToFront();
    await see(page, WIDTH, '2px', 5000);
  }
  await streams(site.server, 1);
  site.folder.write('index.html', HTML('new'));
  for (const page of pages) await see(page, TEXT, 'new');
});

const withouts: [string, string][] = [
  ['there is no SharedWorker', 'delete window.SharedWorker'],
  [
    'a SharedWorker is not allowed',
    'window.SharedWorker = class { constructor() { throw new DOMException("no", "SecurityError") } }',
  ],
  [
    'the worker never answers',
    'window.SharedWorker = class { constructor() { this.port = new MessageChannel().port1 } }',
  ],
  [
    'the worker cannot be loaded',
    'window.SharedWorker = class extends SharedWorker { constructor() { super("/missing.js") } }',
  ],
];

for (const [name, script] of withouts) {
  test(`${name}: a page holds a stream of its own`, async () => {
    await using site = await serve();
    const page = await site.context.newPage();
    await page.evaluateOnNewDocument(script);
    await page.goto(site.server.url);
    await streams(site.server, 1);
    site.folder.write('a.css', CSS(2));
    await see(page, WIDTH, '2px');
    site.folder.write('index.html', HTML('new'));
    await see(page, TEXT, 'new');
    await streams(site.server, 1);
    await page.goto('about:blank');
    await streams(site.server, 0, 2000);
  });
}

test.after(async () => {
  await browser.close();
});
test.run();
