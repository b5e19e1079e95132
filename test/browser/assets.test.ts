import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type StartOptions, start } from '../../src/index.ts';
import { type Folder, folder, until, within } from '../harness.ts';
import { engine, launch, type Page, puppeteerOf } from './engine.ts';

interface Site extends AsyncDisposable, Pick<Folder, 'write'> {}

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
const script = bundle.outputFiles[0]?.text ?? '';

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
    const bytes = Buffer.from(body);
    // Media are seekable only where ranges are answered.
    const start = Number(/bytes=(\d+)/.exec(req.headers.range ?? '')?.[1] ?? 0);
    res.writeHead(req.headers.range ? 206 : 200, {
      'content-type': type,
      'content-length': bytes.length - start,
      'cache-control': type === 'font/ttf' ? 'no-store' : 'no-cache',
      ...(req.headers.range && { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` }),
    });
    res.end(bytes.subarray(start));
  }, 30);
});
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
const browser = await launch();
const page = await browser.newPage();
const reader = await browser.newPage();
await page.bringToFront();
test.after(async () => {
  await browser[Symbol.asyncDispose]();
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

const PAGE = (body: string) =>
  `<!doctype html><html><head><link rel=icon href="data:,"></head><body>${body}</body></html>`;

async function open(body: string): Promise<void> {
  files.set('/', PAGE(body));
  await page.goto(origin);
  await page.evaluate(`globalThis.assets = (() => { ${script}; return assets; })()`);
  requests.length = 0;
}

/** Pictures of the page while `act` goes on: of Chromium each frame that it has shown, else as many as can be taken. */
async function pictures(act: () => Promise<unknown>): Promise<string[]> {
  if (engine === 'chromium') return screencast(page, act);
  const frames = [await page.screenshot()];
  let ended = false;
  const acted = act().finally(() => {
    ended = true;
  });
  acted.catch(() => {}); // thrown below
  while (!ended) frames.push(await page.screenshot());
  await acted;
  return frames;
}

async function screencast(page: Page, act: () => Promise<unknown>): Promise<string[]> {
  const session = await puppeteerOf(page).createCDPSession();
  const frames: { data: string; time: number }[] = [];
  session.on('Page.screencastFrame', ({ data, metadata, sessionId }) => {
    frames.push({ data, time: metadata.timestamp ?? 0 });
    session.send('Page.screencastFrameAck', { sessionId }).catch(() => {});
  });
  await session.send('Page.startScreencast', { format: 'png', everyNthFrame: 1 });
  await act();
  await page.evaluate(async () => {
    for (let i = 0; i < 5; i++) await new Promise(requestAnimationFrame);
  });
  await session.send('Page.stopScreencast');
  await session.detach();
  // A frame that was quicker to encode comes before an earlier one.
  return frames.sort((a, b) => a.time - b.time).map(({ data }) => data);
}

/** Runs `act`, and gives the colours of these points in the pictures of the page meanwhile, without repeats. */
async function watchFrames(points: readonly number[], act: () => Promise<unknown>): Promise<string[][]> {
  return coloursOf([...(await pictures(act)), await page.screenshot()], points);
}

/** The colours of these points in pictures of the page, one after the other, without repeats. */
function coloursOf(frames: readonly string[], points: readonly number[]): Promise<string[][]> {
  return reader.evaluate(
    async (frames, points) => {
      const seen = points.map((): string[] => []);
      for (const frame of frames) {
        const image = new Image();
        image.src = `data:image/png;base64,${frame}`;
        await image.decode();
        const canvas = document.createElement('canvas');
        Object.assign(canvas, { width: image.width, height: image.height });
        const context = canvas.getContext('2d');
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

const POINTS = SHOWN.map((_, i) => 40 * i + 20);
/** A box for each, with a file of its own. */
const BOXES = `<style>body { margin: 0; display: flex; line-height: 0 }
  body > div { width: 40px; height: 40px; overflow: hidden }</style>${SHOWN.map(([, markup, css = ''], i) =>
    `<div id=b${i}>${markup}</div><style>${css && `#b${i}`}${css}</style>`.replaceAll('a.svg', `a${i}.svg`),
  ).join('')}`;

/** Resolves when all places have been painted in this colour. */
async function seen(color: string): Promise<void> {
  let last: string[][] = [];
  const isSeen = async () => {
    last = await coloursOf([await page.screenshot()], POINTS);
    return last.flat().every((found) => found === color);
  };
  await until(`${color} everywhere`, isSeen).catch(() =>
    assert.equal(
      Object.fromEntries(SHOWN.map(([name], i) => [name, last[i]])),
      Object.fromEntries(SHOWN.map(([name]) => [name, [color]])),
    ),
  );
}

test('swapAssets() shows the new bytes in each place without a frame in between', async () => {
  const paths = SHOWN.map((_, i) => `/a${i}.svg`);
  const paint = (color: string) => {
    for (const path of paths) files.set(path, svg(color));
  };
  paint('red');
  await open(BOXES);
  await seen('red');
  await page.evaluate('void (window.before = [...document.querySelectorAll("*")])');
  const frames = await watchFrames(POINTS, async () => {
    paint('blue');
    assert.is(await swap(...paths), true);
  });
  assert.equal(
    Object.fromEntries(SHOWN.map(([name], i) => [name, frames[i]])),
    Object.fromEntries(SHOWN.map(([name]) => [name, ['red', 'blue']])),
  );
  assert.is(
    await page.evaluate('[...document.querySelectorAll("*")].every((node, i) => node === before[i])'),
    true,
  );
});

/** Opens a page of files that a server of ours serves; a reload takes its marker away. */
async function serve(
  body: string,
  others: Record<string, string | Buffer>,
  options: StartOptions = {},
): Promise<Site> {
  const site = folder({ ...others, 'index.html': PAGE(body) });
  const live = await start({ root: site.path, port: 0, host: '127.0.0.1', ...options });
  await page.goto(live.url);
  await page.evaluate('window.marker = 1');
  return {
    write: site.write,
    [Symbol.asyncDispose]: async () => {
      await page.goto('about:blank');
      await live.close();
      site[Symbol.dispose]();
    },
  };
}

test('a saved picture is shown in each place by a real server, without a reload', async () => {
  const names = SHOWN.map((_, i) => `a${i}.svg`);
  await using site = await serve(BOXES, Object.fromEntries(names.map((name) => [name, svg('red')])));
  await seen('red');
  for (const name of names) site.write(name, svg('blue'));
  await seen('blue');
  assert.is(await page.evaluate('window.marker'), 1);
});

// One row: a use of a file, and what tells of the file in the page; the file before and after, each with what tells then.
type State = readonly [content: string | Buffer, shows: unknown];
const TOLD: readonly (readonly [
  name: string,
  body: string,
  tells: string,
  file: string,
  before: State,
  after: State,
])[] = [
  [
    'an icon',
    '<link rel=icon id=x href=i.svg>',
    'x.href.includes("?live-sse=")',
    'i.svg',
    [svg('red'), false],
    [svg('blue'), true],
  ],
  [
    'a mask',
    '<p id=x style="mask:url(i.svg)">x</p>',
    'getComputedStyle(x).maskImage.includes("?live-sse=")',
    'i.svg',
    [svg('red'), false],
    [svg('blue'), true],
  ],
  [
    'a font',
    '<style>@font-face { font-family: f; src: url(f.ttf) } b { font: 20px f, monospace }</style><b id=x>aaaaa</b>',
    'x.offsetWidth',
    'f.ttf',
    [font(500), 50],
    [font(1000), 100],
  ],
  ['a sound', '<audio id=x src=s.wav></audio>', 'x.duration', 's.wav', [wav(2), 2], [wav(3), 3]],
];

for (const [name, body, tells, file, before, after] of TOLD) {
  test(`the saved file of ${name} is shown by a real server, without a reload`, async () => {
    await using site = await serve(body, { [file]: before[0] });
    await page.becomes(`${tells} === ${before[1]}`);
    site.write(file, after[0]);
    await page.becomes(`${tells} === ${after[1]}`);
    assert.is(await page.evaluate('window.marker'), 1);
  });
}

test('a font that changes with a reload is new after it', async () => {
  const body =
    '<style>@font-face { font-family: f; src: url(f.ttf) } b { font: 20px f, monospace }</style><b id=x>aaaaa</b>';
  await using site = await serve(body, { 'f.ttf': font(500) }, { reloadOnly: ['assets'] });
  await page.becomes('x.offsetWidth === 50');
  site.write('f.ttf', font(1000));
  await page.becomes('window.marker === undefined && x.offsetWidth === 100');
});

test('swapAssets() swaps a mask, an imported sheet, an adopted one, and a keyframe', async () => {
  files.set('/c/a.svg', svg('red'));
  files.set('/c/b.css', '#b { background: url("a.svg") } @keyframes k { to { background: url(a.svg) } }');
  files.set('/c/a.css', '@import "b.css"; #a { mask-image: url(a.svg); background: red }');
  await open('<link rel=stylesheet href=/c/a.css><p id=a>a</p><p id=b>b</p>');
  await page.evaluate(() => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync('#c { background: url(/c/a.svg) }');
    document.adoptedStyleSheets = [sheet];
  });
  assert.is(await swap('/c/a.svg'), true);
  const text = await page.evaluate(() => {
    const textOf = (sheet: CSSStyleSheet): string =>
      [...sheet.cssRules]
        .map((rule) =>
          rule instanceof CSSImportRule && rule.styleSheet ? textOf(rule.styleSheet) : rule.cssText,
        )
        .join();
    return [...document.styleSheets, ...document.adoptedStyleSheets].map(textOf).join();
  });
  // WebKit tells of a mask twice.
  assert.is(text.match(/a\.svg\?live-sse=/g)?.length, engine === 'webkit' ? 5 : 4);
  assert.is(text.match(/a\.svg"/g), null);
  assert.is(requests.filter((url) => url.startsWith('/c/a.svg?')).length > 0, true);
});

test('swapAssets() again and again leaves one token, and what was in the query and the hash', async () => {
  files.set('/a b.svg', svg('red'));
  await open(
    '<img src="a%20b.svg?v=1#x" srcset="a%20b.svg, a%20b.svg?w=1 2x" alt=x style="background: url(\'a b.svg\')">',
  );
  const outer = () => page.$eval('img', (img) => img.outerHTML.replace(/live-sse=[\w-]+/g, 'live-sse=*'));
  const once =
    '<img src="a%20b.svg?v=1&amp;live-sse=*#x" srcset="a%20b.svg?live-sse=*, a%20b.svg?w=1&amp;live-sse=* 2x" alt="x" style="background: url(\'a b.svg?live-sse=*\')">';
  for (let i = 0; i < 5; i++) {
    assert.is(await swap('/a b.svg'), true);
    assert.is(await outer(), once);
  }
});

test('swapAssets() shows the newest bytes of two swaps at once', async () => {
  files.set('/a.svg', svg('red'));
  await open('<img src=a.svg>');
  await Promise.all([swap('/a.svg'), swap('/a.svg')]);
  const tokens = requests.map((url) => /live-sse=(.*)/.exec(url)?.[1]);
  assert.is(
    await page.$eval('img', (img) => /live-sse=(.*)/.exec(img.src)?.[1]),
    tokens.filter(Boolean).sort().at(-1),
  );
});

test('swapAssets() without paths gives the newest bytes to what has come since', async () => {
  files.set('/a.svg', svg('red').replace('width="40"', 'width="10"'));
  await open('<img src=a.svg>');
  files.set('/a.svg', svg('red').replace('width="40"', 'width="20"'));
  assert.is(await swap('/a.svg'), true);
  await page.evaluate(() => document.body.insertAdjacentHTML('beforeend', '<img src=a.svg>'));
  assert.is(await swap(), true);
  assert.equal(await page.$$eval('img', (images) => images.map((img) => img.naturalWidth)), [20, 20]);
});

test('swapAssets() leaves the old picture if the new one is broken or gone', async () => {
  files.set('/a.svg', svg('red'));
  const body = '<img src=a.svg><object data=a.svg></object><svg><use href="a.svg#r"></use></svg>';
  await open(body);
  const before = await page.$eval('body', (element) => element.innerHTML);
  files.delete('/a.svg');
  assert.is(await swap('/a.svg'), true);
  assert.is(await page.$eval('body', (element) => element.innerHTML), before);
  assert.is(await page.$eval('img', (img) => img.naturalWidth), 40);
  files.set('/a.svg', svg('blue'));
  assert.is(await swap('/a.svg'), true);
  assert.match(await page.$eval('img', (img) => img.src), 'live-sse=');
});

test('swapAssets() shows a picture that was missing', async () => {
  files.delete('/late.svg');
  await open('<img src=late.svg>');
  files.set('/late.svg', svg('red'));
  assert.is(await swap('/late.svg'), true);
  assert.is(await page.$eval('img', (img) => img.naturalWidth), 40);
});

test('swapAssets() gives an icon another address', async () => {
  files.set('/icon.svg', svg('red'));
  await open('<link rel="shortcut icon" href=/icon.svg>');
  assert.is(await swap('/icon.svg'), true);
  assert.match(
    await page.$eval('[rel="shortcut icon"]', (link) => link.getAttribute('href') ?? ''),
    /^\/icon\.svg\?live-sse=/,
  );
});

test('swapAssets() shows a new font without a frame of another one', async () => {
  files.set('/f.ttf', font(500));
  await open(`<style>@font-face { font-family: "Of Test"; src: url("f.ttf") format("truetype"); font-weight: 400 }
    span { font: 20px "Of Test", monospace }</style><span>aaaaaaaaaa</span>`);
  const width = () => page.$eval('span', (span) => span.offsetWidth);
  await page.evaluate(() => document.fonts.ready);
  assert.is(await width(), 100);
  await page.evaluate(() => {
    const span = document.querySelector('span');
    const widths = new Set<number>();
    Object.assign(window, { widths });
    const look = () => {
      widths.add(span?.offsetWidth ?? 0);
      requestAnimationFrame(look);
    };
    look();
  });
  for (const advance of [1000, 250]) {
    files.set('/f.ttf', font(advance));
    assert.is(await swap('/f.ttf'), true);
    assert.is(await width(), advance / 5);
    await page.evaluate(() => new Promise(requestAnimationFrame));
  }
  files.set('/f.ttf', 'broken');
  assert.is(await swap('/f.ttf'), true);
  await page.evaluate(() => new Promise(requestAnimationFrame));
  assert.equal(await page.evaluate('[...widths]'), [100, 200, 50]);
  assert.is(await page.evaluate(() => document.fonts.size), 1);
});

for (const markup of ['<audio src=s.wav controls></audio>', '<video><source src=s.wav></video>']) {
  test(`swapAssets() lets ${markup} go on where it was`, async () => {
    files.set('/s.wav', wav(200));
    await open(markup);
    await page.$eval('audio,video', async (media) => {
      if (!(media instanceof HTMLMediaElement)) return;
      media.playbackRate = 2;
      await media.play();
      media.muted = true;
    });
    // How far it can be sought is known by and by.
    const media = 'document.querySelector("audio,video")';
    await page.becomes(`${media}.currentTime >= 10 || void (${media}.currentTime = 10)`);
    files.set('/s.wav', wav(300));
    assert.is(await swap('/s.wav'), true);
    await page.becomes(`${media}.currentTime >= 10`);
    const state = await page.$eval('audio,video', (media) =>
      media instanceof HTMLMediaElement
        ? [media.duration, media.paused, media.playbackRate, media.muted]
        : [],
    );
    assert.equal(state, [300, false, 2, true]);
    files.set('/s.wav', 'broken');
    assert.is(await swap('/s.wav'), true);
    assert.is(
      await page.$eval('audio,video', (media) => media instanceof HTMLMediaElement && media.error),
      null,
    );
  });
}

// One row: what it is about, the page, the path that changes, and what happens in the page.
const REFUSED: readonly (readonly [name: string, body: string, path: string, live?: string])[] = [
  ['data', '', '/a.json'],
  ['a file that is used nowhere', '<img src=b.svg>', '/a.svg'],
  [
    'a picture that a script has fetched',
    '<img src=a.svg>',
    '/a.svg',
    'fetch("/a.svg").then((res) => res.text())',
  ],
  [
    'a picture that only a script holds',
    '',
    '/a.svg',
    'held = new Image(); held.src = "/a.svg"; held.decode()',
  ],
  ['a picture of a custom element', '<x-img src=a.svg></x-img>', '/a.svg'],
  ['a link to a picture', '<a href=a.svg>x</a>', '/a.svg'],
];

for (const [name, body, path, live = ''] of REFUSED) {
  test(`swapAssets() leaves ${name} to a reload`, async () => {
    files.set('/a.svg', svg('red'));
    await open(body);
    await page.evaluate(live);
    const before = await page.content();
    assert.is(await swap(path), false);
    assert.is(await page.content(), before);
  });
}

/** Silence of so many seconds. */
function wav(seconds: number): Buffer {
  const samples = 8000 * seconds;
  const file = Buffer.alloc(44 + samples, 128);
  file.write('RIFF');
  file.writeUInt32LE(36 + samples, 4);
  file.write('WAVEfmt ', 8);
  for (const [i, n] of [16, 1 | (1 << 16), 8000, 8000, 1 | (8 << 16)].entries())
    file.writeUInt32LE(n, 16 + 4 * i);
  file.write('data', 36);
  file.writeUInt32LE(samples, 40);
  return file;
}

/** A TrueType font in which each letter is so wide, in thousandths of its size. */
function font(advance: number): Buffer {
  const words = (...list: number[]) => {
    const buffer = Buffer.alloc(2 * list.length);
    list.forEach((n, i) => {
      buffer.writeUInt16BE(n & 0xffff, 2 * i);
    });
    return buffer;
  };
  const tables: Record<string, Buffer> = {
    'OS/2': words(
      4,
      advance,
      400,
      5,
      0,
      ...Array(10).fill(0),
      ...Array(16).fill(0),
      0,
      97,
      97,
      800,
      -200,
      0,
      800,
      200,
      0,
      0,
      0,
      0,
      500,
      700,
      0,
      32,
      1,
    ),
    // Format 4: the letter a is glyph 1
    cmap: words(0, 1, 3, 1, 0, 12, 4, 32, 0, 4, 4, 1, 0, 97, 0xffff, 0, 97, 0xffff, -96, 1, 0, 0),
    glyf: words(1, 0, 0, 100, 100, 3, 0, 0x0101, 0x0101, 0x0000, 100, 0, -100, 0, 0, 100, 0),
    head: words(
      1,
      0,
      1,
      0,
      0,
      0,
      0x5f0f,
      0x3cf5,
      0,
      1000,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      0,
      100,
      100,
      0,
      8,
      2,
      0,
      0,
    ),
    hhea: words(1, 0, 800, -200, 0, advance, 0, 0, advance, 1, 0, 0, 0, 0, 0, 0, 0, 2),
    hmtx: words(advance, 0, advance, 0),
    loca: words(0, 0, 17),
    maxp: words(1, 0, 2, 4, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0),
    name: words(0, 0, 6),
    post: words(3, ...Array(15).fill(0)),
  };
  const names = Object.keys(tables);
  const directory = [words(1, 0, names.length, 128, 3, 16 * names.length - 128)];
  const bodies: Buffer[] = [];
  let offset = 12 + 16 * names.length;
  for (const name of names) {
    const table = tables[name] ?? Buffer.alloc(0);
    const padded = Buffer.concat([table, Buffer.alloc((4 - (table.length % 4)) % 4)]);
    let sum = 0;
    for (let i = 0; i < padded.length; i += 4) sum = (sum + padded.readUInt32BE(i)) >>> 0;
    const entry = Buffer.alloc(16);
    entry.write(name);
    for (const [i, n] of [sum, offset, table.length].entries()) entry.writeUInt32BE(n, 4 + 4 * i);
    directory.push(entry);
    bodies.push(padded);
    offset += padded.length;
  }
  return Buffer.concat([...directory, ...bodies]);
}

test.run();
