import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { within } from '../harness.ts';
import { launch } from './chromium.ts';

declare global {
  /** What the bundle of client/assets.ts defines in each page. */
  var assets: typeof import('../../client/assets.ts');
}

const bundle = await build({
  entryPoints: [fileURLToPath(new URL('../../client/assets.ts', import.meta.url))],
  bundle: true,
  write: false,
  format: 'iife',
  globalName: 'assets',
});
// tsx wraps the functions inside those that are sent to the page.
const script = `var __name = (value) => value;${bundle.outputFiles[0]?.text}`;

const TYPES: Record<string, string> = {
  html: 'text/html; charset=utf-8',
  css: 'text/css',
  svg: 'image/svg+xml',
  ttf: 'font/ttf',
  wav: 'audio/wav',
};

/** What is served, by URL path. */
const files = new Map<string, string | Buffer>();
const requests: string[] = [];
/** Answers as the server does: fonts are never stored, anything else is asked for again each time. */
const server = createServer((req, res) => {
  const [path = ''] = (req.url ?? '').split('?');
  requests.push(req.url ?? '');
  const body = files.get(decodeURIComponent(path));
  const type = TYPES[path.replace(/.*\./, '')] ?? TYPES.html;
  // Slow enough for several frames without the file, if there were any
  setTimeout(() => {
    if (body === undefined) return void res.writeHead(404).end();
    res.writeHead(200, {
      'content-type': type,
      'cache-control': type === 'font/ttf' ? 'no-store' : 'no-cache',
    });
    res.end(body);
  }, 30);
});
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
const chromium = await launch(['--autoplay-policy=no-user-gesture-required']);
const page = await chromium.browser.newPage();
await page.setViewport({ width: 1200, height: 100 });
await page.evaluateOnNewDocument(script);
const reader = await chromium.browser.newPage();
await page.bringToFront();
test.after(async () => {
  await chromium[Symbol.asyncDispose]();
  server.closeAllConnections();
  server.close();
});

const svg = (color: string) =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40" viewBox="0 0 40 40"><rect id="r" width="40" height="40" fill="${color}"/></svg>`;

const swap = (...paths: string[]) =>
  within(
    `a swap of ${paths}`,
    page.evaluate((list) => assets.swapAssets(list), paths),
  );

async function open(body: string): Promise<void> {
  files.set(
    '/',
    `<!doctype html><html><head><link rel=icon href="data:,"></head><body>${body}</body></html>`,
  );
  await page.goto(origin, { waitUntil: 'load' });
  requests.length = 0;
}

/** Runs `act`, and gives the colours of these points in each frame that the browser has shown meanwhile, without repeats. */
async function watchFrames(points: readonly number[], act: () => Promise<unknown>): Promise<string[][]> {
  const session = await page.createCDPSession();
  const frames: string[] = [];
  session.on('Page.screencastFrame', ({ data, sessionId }) => {
    frames.push(data);
    session.send('Page.screencastFrameAck', { sessionId }).catch(() => {});
  });
  await session.send('Page.startScreencast', { format: 'png', everyNthFrame: 1 });
  await act();
  await page.evaluate(async () => {
    for (let i = 0; i < 5; i++) await new Promise(requestAnimationFrame);
  });
  await session.send('Page.stopScreencast');
  frames.push(await page.screenshot({ encoding: 'base64' }));
  await session.detach();
  return reader.evaluate(
    async (frames, points) => {
      const seen = points.map((): string[] => []);
      for (const frame of frames) {
        const image = new Image();
        image.src = `data:image/png;base64,${frame}`;
        await image.decode();
        const context = new OffscreenCanvas(image.width, image.height).getContext('2d');
        context?.drawImage(image, 0, 0);
        points.forEach((x, i) => {
          const [r = 0, g = 0, b = 0] = context?.getImageData(x, 20, 1, 1).data ?? [];
          const name =
            [r > 200 ? 'red' : '', g > 100 ? 'green' : '', b > 200 ? 'blue' : ''].join('') || 'black';
          if (seen[i]?.at(-1) !== name) seen[i]?.push(name);
        });
      }
      return seen;
    },
    frames,
    points,
  );
}

// One row: a use of /a.svg, as markup and as rules for its box.
const SHOWN: readonly (readonly [name: string, markup: string, css?: string])[] = [
  ['an img', '<img src="a.svg">'],
  ['an img with a query', '<img src="/a.svg?v=1#x">'],
  ['a srcset', '<img srcset="/none.png 9x, /a.svg 1x">'],
  ['a picture', '<picture><source srcset="a.svg"><img src="/none.png"></picture>'],
  ['an image button', '<input type=image src="a.svg">'],
  ['a poster', '<video poster="a.svg" width=40 height=40></video>'],
  ['an SVG image', '<svg width=40 height=40><image href="a.svg"/></svg>'],
  ['an SVG image of old', '<svg width=40 height=40><image xlink:href="a.svg"/></svg>'],
  ['a use', '<svg width=40 height=40><use href="a.svg#r"/></svg>'],
  ['an object', '<object data="a.svg"></object>'],
  ['an embed', '<embed src="a.svg">'],
  ['an img in a shadow root', '<div><template shadowrootmode=open><img src="a.svg"></template></div>'],
  ['an inline style', '<div style="height:40px;background:url(a.svg)"></div>'],
  ['a background', '', '{ background: url(a.svg) }'],
  ['an image-set', '', '{ background: image-set("a.svg" 1x, "none.png" 3x) }'],
  ['a background with a variable', '', '{ --color: transparent; background: var(--color) url(a.svg) }'],
  ['a variable', '', '{ --image: url(a.svg); background: var(--image) }'],
  ['content', '', '::before { content: url(a.svg) }'],
  ['a rule in a rule', '', '{ @media all { & { background: url("a.svg") } } }'],
  ['a list', '', '{ display: list-item; list-style: url(a.svg) inside }'],
];

test('swapAssets() shows the new bytes in each place without a frame in between', async () => {
  const paths = SHOWN.map((_, i) => `/a${i}.svg`);
  const paint = (color: string) => {
    for (const path of paths) files.set(path, svg(color));
  };
  const boxes = SHOWN.map(([, markup, css = ''], i) =>
    `<div id=b${i}>${markup}</div><style>${css && `#b${i}`}${css}</style>`.replaceAll('a.svg', `a${i}.svg`),
  );
  paint('red');
  await open(`<style>body { margin: 0; display: flex; line-height: 0 }
    body > div { width: 40px; height: 40px; overflow: hidden }</style>${boxes.join('')}`);
  const nodes = await page.evaluateHandle(() => [...document.querySelectorAll('*')]);
  const frames = await watchFrames(
    SHOWN.map((_, i) => 40 * i + 20),
    async () => {
      paint('blue');
      assert.is(await swap(...paths), true);
    },
  );
  assert.equal(
    Object.fromEntries(SHOWN.map(([name], i) => [name, frames[i]])),
    Object.fromEntries(SHOWN.map(([name]) => [name, ['red', 'blue']])),
  );
  const same = (before: Element[]) =>
    [...document.querySelectorAll('*')].every((node, i) => node === before[i]);
  assert.is(await page.evaluate(same, nodes), true);
});

test.run();
