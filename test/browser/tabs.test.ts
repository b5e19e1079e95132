import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type LiveServer, start } from '../../src/index.ts';
import { type Folder, folder, freePort, passTick, until } from '../harness.ts';
import { servers } from '../servers.ts';
import { type Context, except, launch, type Page, puppeteerOf, type Reasons } from './engine.ts';
import { front } from './front.ts';

const browser = await launch();

interface Site extends AsyncDisposable {
  readonly server: LiveServer;
  readonly folder: Folder;
  readonly context: Context;
  open(path?: string): Promise<Page>;
}

const HTML = (text: string) =>
  `<!doctype html><html><head><link rel=stylesheet href=/a.css></head><body><p>${text}</p></body></html>`;
const CSS = (width: number) => `p { width: ${width}px }`;
const WIDTH = 'getComputedStyle(document.querySelector("p")).width';
const TEXT = 'document.querySelector("p").textContent';

async function serve(): Promise<Site> {
  const site = folder({ 'index.html': HTML('old'), 'b.html': HTML('b'), 'a.css': CSS(1) });
  const server = await start({ root: site.path, port: await freePort(), host: '127.0.0.1' });
  const context = await browser.newContext();
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

test('a tab that opens while an event is on its way misses nothing', async () => {
  await using site = await serve();
  let hold = false;
  let held: (() => void) | undefined;
  await using slow = await front(site.server, {
    answer: async (req) => {
      if (hold && !held && req.url === '/__events/client.js')
        await new Promise<void>((resolve) => {
          held = resolve;
        });
      return false;
    },
  });
  const first = await site.context.newPage();
  await first.goto(slow.url);
  await streams(site.server, 1);
  hold = true;
  const page = await site.context.newPage();
  await page.evaluate(`void location.assign('${slow.url}')`);
  const release = await until('the client to be asked for', () => held);
  // A break that ends a line only in JavaScript: the event, which has the text of the page, is one line all the same.
  site.folder.write('index.html', HTML('new').replace('<p>', '\u2028<p>'));
  await see(first, TEXT, 'new');
  release();
  await see(page, TEXT, 'new');
  await streams(site.server, 1);
});

/** Ends the process of a page, and waits until it is gone. */
async function crash(page: Page): Promise<void> {
  const there = puppeteerOf(page);
  const gone = new Promise((resolve) => there.once('error', resolve));
  there.goto('chrome://crash').catch(() => {}); // it never arrives
  await gone;
}

async function freeze(page: Page): Promise<void> {
  const session = await puppeteerOf(page).createCDPSession();
  await session.send('Page.setWebLifecycleState', { state: 'frozen' });
}

const noCrash = {
  firefox: 'its driver has no command that ends the process of a page',
  webkit: 'its driver ends the session when the process of a page ends',
};
const noFreeze = {
  firefox: 'it never freezes a page',
  webkit: 'its driver has no command that freezes a page',
};

const endings: [name: string, end: (page: Page) => Promise<unknown>, cannot?: Reasons][] = [
  ['closed', (page) => page.close()],
  ['navigated away', (page) => page.goto('about:blank')],
  ['reloaded', (page) => page.reload()],
  ['crashed', crash, noCrash],
  ['frozen', freeze, noFreeze],
];

for (const [name, end, cannot] of endings) {
  except(cannot ?? {}, test)(`the first tab is ${name}: the others go on`, async () => {
    await using site = await serve();
    const first = await site.open();
    const second = await site.open();
    await streams(site.server, 1);
    await end(first);
    site.folder.write('a.css', CSS(2));
    await see(second, WIDTH, '2px', 5000);
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
  for (let i = 0; i < 50; i++) await page.goto(`${site.server.url}?${i}`);
  await streams(site.server, 1);
  site.folder.write('a.css', CSS(2));
  await see(page, WIDTH, '2px');
  await streams(site.server, 1);
});

for (const [what, change, seen] of [
  ['stylesheet', (site: Site) => site.folder.write('a.css', CSS(2)), [WIDTH, '2px']],
  ['document', (site: Site) => site.folder.write('index.html', HTML('new')), [TEXT, 'new']],
] as const) {
  test(`a page from the back/forward cache shows the ${what} of now`, async () => {
    await using site = await serve();
    const page = await site.open();
    await streams(site.server, 1);
    await page.evaluate(
      'window.marker = 1; addEventListener("pageshow", (event) => { window.persisted = event.persisted })',
    );
    await page.goto(`${site.server.url}b.html`);
    await streams(site.server, 1);
    change(site);
    await page.goBack();
    await see(page, seen[0], seen[1], 2000);
    if (what === 'stylesheet') {
      assert.equal(await page.evaluate('[window.marker, window.persisted]'), [1, true]);
    }
  });
}

except(noCrash, test)('the process of the worker is killed: its pages lose nothing', async () => {
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

test('the server is killed and started again: a page shows what was saved meanwhile, and goes on', async () => {
  using site = folder({ 'index.html': HTML('old'), 'a.css': CSS(1) });
  await using process = servers();
  const port = await freePort();
  const { url } = await process.start({ root: site.path, port });
  const page = await browser.newPage();
  await page.goto(url);
  site.write('a.css', CSS(2));
  await see(page, WIDTH, '2px');
  await page.evaluate('window.old = 1');
  await process.kill();
  site.write('index.html', HTML('new'));
  site.write('a.css', CSS(3));
  passTick(site.path);
  await using again = await start({ root: site.path, port, host: '127.0.0.1' });
  await see(page, `[window.old ?? 0, ${TEXT}, ${WIDTH}].join()`, '0,new,3px');
  await streams(again, 1);
  await page.evaluate('window.marker = 1');
  site.write('a.css', CSS(4));
  await see(page, `[window.marker, ${WIDTH}].join()`, '1,4px');
  await page.close();
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
    await using changed = await front(site.server, { script });
    const page = await site.context.newPage();
    await page.goto(changed.url);
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
  await browser[Symbol.asyncDispose]();
});
test.run();
