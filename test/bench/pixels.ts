// From a save to what Chromium shows: times of animation frames in which the page has what was saved.

import type { Browser, Page } from 'puppeteer-core';
import { launch } from '../browser/chromium.ts';
import { type Folder, folder } from '../harness.ts';
import { type Bench, pause, turns, withServer } from './bench.ts';
import { type Peer, type Running, startPeer } from './peers.ts';

/** Milliseconds after which a save counts as never shown. */
const PATIENCE = 4000;

/** What the page says of a frame that is not like the one before, and of each that is unstyled. */
interface Frame {
  readonly at: number;
  readonly width: string;
  readonly text: string;
  readonly image: number;
}

/** The page as its files are: each number is shown in another way. */
interface State {
  readonly css: number;
  readonly html: number;
  readonly image: number;
  readonly script: number;
}

const WIDTH = 100;
/** Milliseconds from one frame to the next. */
const FRAME = 1000 / 60;

function write(site: Folder, what: keyof State, state: State): void {
  if (what === 'css') {
    site.write(
      'site.css',
      `${'.some-other { color: red }\n'.repeat(50)}#box { min-width: ${WIDTH + state.css}px }\n`,
    );
  } else if (what === 'image') {
    const size = `width="${WIDTH + state.image}" height="40"`;
    site.write(
      'picture.svg',
      `<svg xmlns="http://www.w3.org/2000/svg" ${size}><rect ${size} fill="teal"/></svg>\n`,
    );
  } else {
    const more = '<section><h2>A part</h2><p>Some words of a page as there are many</p></section>\n'.repeat(
      40,
    );
    site.write(
      'index.html',
      `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Pixels</title>\n<link rel="stylesheet" href="/site.css">\n</head>
<body><p id="box">${state.html}</p>\n<img id="picture" src="/picture.svg" alt="">\n${more}<script>var script = ${state.script};</script></body></html>\n`,
    );
  }
}

const FIRST: State = { css: 0, html: 0, image: 0, script: 0 };

/** Runs in each new document: looks at every frame. */
function probe(): void {
  const told = window as unknown as { benchFrame(frame: Frame): void; benchLoad(): void };
  if (window !== top) return;
  told.benchLoad();
  let before = '';
  const look = () => {
    const box = document.getElementById('box');
    const picture = document.querySelector<HTMLImageElement>('#picture');
    if (box) {
      const width = getComputedStyle(box).minWidth;
      const frame = { width, text: box.textContent ?? '', image: picture?.naturalWidth ?? 0 };
      const now = JSON.stringify(frame);
      const unstyled = !width.endsWith('px') || width === '0px';
      if (now !== before || unstyled) {
        told.benchFrame({ at: performance.timeOrigin + performance.now(), ...frame });
      }
      before = now;
    }
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

interface Site extends AsyncDisposable {
  readonly server: Running;
  readonly folder: Folder;
  readonly page: Page;
  readonly frames: Frame[];
  loads: number;
  state: State;
}

async function open(browser: Browser, peer: Peer): Promise<Site> {
  const home = folder();
  for (const what of ['css', 'html', 'image'] as const) write(home, what, FIRST);
  const server = await startPeer(peer, home.path);
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  const site: Site = {
    server,
    folder: home,
    page,
    frames: [],
    loads: 0,
    state: FIRST,
    [Symbol.asyncDispose]: async () => {
      await context.close();
      await server[Symbol.asyncDispose]();
      home[Symbol.dispose]();
    },
  };
  await page.exposeFunction('benchFrame', (frame: Frame) => site.frames.push(frame));
  await page.exposeFunction('benchLoad', () => {
    site.loads += 1;
  });
  // tsx names functions by a helper of its own, which the page does not have.
  await page.evaluateOnNewDocument(`globalThis.__name ??= (it) => it; (${probe})()`);
  await page.goto(server.url, { waitUntil: 'domcontentloaded' });
  return site;
}

async function openAll(bench: Bench, browser: Browser, peers: readonly Peer[]): Promise<readonly Site[]> {
  const sites: Site[] = [];
  for (const peer of peers) {
    try {
      sites.push(await open(browser, peer));
    } catch (error) {
      bench.say(`${peer.name}: left out here: ${error instanceof Error ? error.message : error}`);
    }
  }
  await pause(2000); // watching has begun everywhere
  return sites;
}

interface Outcome {
  readonly ms: number | undefined;
  readonly reloads: number;
  readonly unstyled: number;
}

/** Saves one file of the page in front, and looks until it is shown and then for some time for what follows. */
async function save(site: Site, what: keyof State): Promise<Outcome> {
  await site.page.bringToFront();
  // Frames begin anew with the page in front: without chance, every save would come at the same moment of one.
  await pause(250 + Math.random() * FRAME);
  const state = { ...site.state, [what]: site.state[what] + 1 };
  // The reason for a reload is no pixel: what is looked for is the text.
  if (what === 'script') Object.assign(state, { html: state.html + 1 });
  site.state = state;
  site.frames.length = 0;
  site.loads = 0;
  const begin = performance.timeOrigin + performance.now();
  write(site.folder, what, state);
  const isShown = ({ width, text, image }: Frame) => {
    if (what === 'css') return width === `${WIDTH + state.css}px`;
    return what === 'image' ? image === WIDTH + state.image : text === String(state.html);
  };
  const end = performance.now() + PATIENCE;
  while (!site.frames.some(isShown) && performance.now() < end) await pause(5);
  await pause(350);
  const known = [`${WIDTH + state.css}px`, `${WIDTH + state.css - 1}px`];
  const at = site.frames.find(isShown)?.at;
  return {
    ms: at === undefined ? undefined : at - begin,
    reloads: site.loads,
    unstyled: site.frames.filter(({ width }) => !known.includes(width)).length,
  };
}

/** Saves of a stylesheet, a page and an image, each in all browsers in turn. */
export async function pixels(bench: Bench): Promise<void> {
  await using chromium = await launch();
  const sites = await openAll(
    bench,
    chromium.browser,
    bench.peers.filter(({ injects }) => injects),
  );
  try {
    for (let round = 0; round < bench.rounds(12); round += 1) {
      for (const what of ['css', 'html', 'image'] as const) {
        for (const site of turns(sites, round)) {
          const { ms, reloads, unstyled } = await save(site, what);
          const { peer } = site.server;
          if (ms !== undefined) bench.record(`${what} save → pixels (ms)`, peer, ms);
          bench.record(`${what} save, never shown`, peer, ms === undefined ? 1 : 0);
          bench.record(`${what} save, reloads`, peer, reloads);
          bench.record(`${what} save, unstyled frames`, peer, unstyled);
          if (ms === undefined) await site.page.reload({ waitUntil: 'domcontentloaded' });
        }
      }
    }
  } finally {
    for (const site of sites) await site[Symbol.asyncDispose]();
  }
}

/** live-sse against itself: the same edit, merged into the page and with something that needs a reload. */
export async function merge(bench: Bench): Promise<void> {
  await using chromium = await launch();
  const own = bench.peers.filter(({ name }) => name === 'live-sse');
  const sites = await openAll(bench, chromium.browser, own);
  try {
    for (let round = 0; round < bench.rounds(12); round += 1) {
      for (const site of sites) {
        for (const what of turns(['html', 'script'] as const, round)) {
          const { ms } = await save(site, what);
          const measure = what === 'html' ? 'merge → pixels (ms)' : 'reload → pixels (ms)';
          if (ms !== undefined) bench.record(measure, site.server.peer, ms);
        }
      }
    }
  } finally {
    for (const site of sites) await site[Symbol.asyncDispose]();
  }
}

const TABS = 12;

/** Twelve tabs of one browser with the same page: how many load, and how many show a save. */
export async function tabs(bench: Bench): Promise<void> {
  for (const peer of bench.peers.filter(({ injects }) => injects)) {
    using home = folder();
    for (const what of ['css', 'html', 'image'] as const) write(home, what, FIRST);
    await withServer(bench, [peer, home.path], async (server) => {
      await using chromium = await launch();
      const pages: Page[] = [];
      let loaded = 0;
      for (let n = 0; n < TABS; n += 1) {
        const page = await chromium.browser.newPage();
        pages.push(page);
        const options = { waitUntil: 'domcontentloaded', timeout: 2000 } as const;
        loaded += await page.goto(server.url, options).then(
          () => 1,
          () => 0,
        );
      }
      await pause(1500);
      write(home, 'html', { ...FIRST, html: 1 });
      const shows = pages.map((page) =>
        page
          .waitForFunction(() => document.getElementById('box')?.textContent === '1', {
            timeout: 5000,
            polling: 50,
          })
          .then(
            () => 1,
            () => 0,
          ),
      );
      const shown = (await Promise.all(shows)).reduce((sum: number, one) => sum + one, 0);
      bench.record('tabs that load, of 12', peer, loaded);
      bench.record('tabs that show it, of 12', peer, shown);
    });
  }
}
