// Stylesheets wherever they live: each is swapped in place, and no frame shows anything but the old or the new.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { until } from '../harness.ts';
import { except, type Page } from './engine.ts';
import { type Site, see, sites, typeInto } from './site.ts';

const { serve, [Symbol.asyncDispose]: close } = await sites();

/** Opens the page, waits until it looks so, puts the user's traces into it and starts the probe. */
async function open(site: Site, look: string, expected: string): Promise<Page> {
  const page = await site.open();
  await see(page, look, expected);
  await typeInto(page, '#i', 'typed');
  await page.evaluate(USER);
  await page.evaluate(`probe(() => ${look})`);
  return page;
}

/** What a reload, or a flash, would show in: everything that a user and a script leave in a page. */
const BODY = `
  <p id=p>text</p><input id=i><details id=d><summary>s</summary>x</details><dialog id=g>y</dialog>
  <div id=box style="height:100px;overflow:auto"><div style="height:900px"></div></div><div style="height:4000px"></div>
  <style>@keyframes turn { to { rotate: 1turn } } #a { animation: turn 60s linear infinite }</style><b id=a>z</b>`;

const USER = `
  window.marker = {};
  d.open = true; g.show(); i.focus(); i.setSelectionRange(1, 3); box.scrollTop = 123; scrollTo(0, 77);
  window.probe = (look) => {
    const first = marker;
    const [animation] = a.getAnimations();
    let time = animation.currentTime;
    window.looks = [];
    window.kept = [];
    const note = (list, value) => list.at(-1) === value || list.push(value);
    const frame = () => {
      const goesOn = a.getAnimations()[0] === animation && animation.currentTime >= time;
      time = animation.currentTime;
      note(looks, look());
      note(kept, JSON.stringify([
        marker === first, goesOn, scrollY, box.scrollTop, document.activeElement.id,
        i.selectionStart, i.selectionEnd, i.value, d.open, g.open,
      ]));
      requestAnimationFrame(frame);
    };
    frame();
  };`;

const KEPT = [JSON.stringify([true, true, 77, 123, 'i', 1, 3, 'typed', true, true])];

/** The probe's frames: so many looks, one after the other, and nothing lost. */
async function sawOnly(page: Page, looks: readonly string[]): Promise<void> {
  await see(page, 'window.looks', looks);
  assert.equal(await page.evaluate('window.kept'), KEPT);
}

const html = (head: string, body = '') =>
  `<!doctype html><html><head><title>t</title>${head}</head><body>${BODY}${body}</body></html>`;

const WIDTH = 'getComputedStyle(p).width';
const FRAME = 'getComputedStyle(frames[0].document.querySelector("p")).width';
const ADOPT = 'sheet.replaceSync(await (await fetch("css/a.css")).text())';
const SHADOW = 'getComputedStyle(host.shadowRoot.querySelector("i")).width';
const p = (px: number) => `p { width: ${px}px } i { display: block; width: ${px}px }`;

const noCssModules = { webkit: 'it has no CSS modules' };

interface Place {
  readonly head?: string;
  readonly body?: string;
  readonly files?: Record<string, string>;
  /** @default width of #p */
  readonly look?: string;
}

const places: Record<string, Place> = {
  'a link': { head: '<link rel=stylesheet href=css/a.css>' },
  'a link with media, title and crossorigin': {
    head: '<link rel=stylesheet href=css/a.css media=screen title=main crossorigin>',
  },
  'a link with the hash of what it was': {
    head: '<link rel=stylesheet href=css/a.css integrity="sha256-HASH">',
  },
  'a link before another one': {
    head: '<link rel=stylesheet href=css/a.css><link rel=stylesheet href=css/b.css>',
    files: { 'css/b.css': 'p { color: rgb(0, 0, 1) }' },
  },
  'an import of an import': {
    head: '<link rel=stylesheet href=c.css>',
    files: { 'c.css': '@import "css/b.css";', 'css/b.css': '@import url(a.css) screen;' },
  },
  'an import of a <style>': { head: '<style>@import "css/a.css";</style>' },
  'a link that a script has added': {
    body: `<script>document.head.append(Object.assign(document.createElement('link'), { rel: 'stylesheet', href: 'css/a.css' }))</script>`,
  },
  'a <style> that a script has added': {
    body: `<script>document.head.append(Object.assign(document.createElement('style'), { textContent: '@import "css/a.css";' }))</script>`,
  },
  'a shadow root': {
    body: `<div id=host></div><script>host.attachShadow({ mode: 'open' }).innerHTML = '<link rel=stylesheet href=css/a.css><i></i>'</script>`,
    look: SHADOW,
  },
  'a declarative shadow root': {
    body: '<div id=host><template shadowrootmode=open><link rel=stylesheet href=css/a.css><i></i></template></div>',
    look: SHADOW,
  },
  'a sheet that the document has adopted': {
    body: `<script type=module>const sheet = new CSSStyleSheet(); ${ADOPT}; document.adoptedStyleSheets = [sheet]</script>`,
  },
  'a sheet that a shadow root has adopted': {
    body: `<div id=host></div><script type=module>const sheet = new CSSStyleSheet(); ${ADOPT};
      const root = host.attachShadow({ mode: 'open' }); root.innerHTML = '<i></i>'; root.adoptedStyleSheets.push(sheet)</script>`,
    look: SHADOW,
  },
  'a CSS module': {
    body: `<script type=module>import sheet from './css/a.css' with { type: 'css' }; document.adoptedStyleSheets = [sheet]</script>`,
  },
  'a link and an adopted sheet': {
    head: '<link rel=stylesheet href=css/a.css>',
    body: `<div id=host></div><script type=module>const sheet = new CSSStyleSheet(); ${ADOPT};
      const root = host.attachShadow({ mode: 'open' }); root.innerHTML = '<i></i>'; root.adoptedStyleSheets.push(sheet)</script>`,
    look: SHADOW,
  },
  'a frame': {
    body: '<iframe src=frame.html></iframe>',
    files: { 'frame.html': '<!doctype html><link rel=stylesheet href=css/a.css><p>x</p>' },
    look: FRAME,
  },
};

for (const [name, { head = '', body = '', files = {}, look = WIDTH }] of Object.entries(places)) {
  const reasons = body.includes("type: 'css'") ? noCssModules : {};
  except(reasons, test)(`${name}: each save is shown in place`, async () => {
    const hash = Buffer.from(await crypto.subtle.digest('SHA-256', Buffer.from(p(1)))).toString('base64');
    await using site = await serve({
      'index.html': html(head.replace('HASH', hash), body),
      'css/a.css': p(1),
      ...files,
    });
    const page = await open(site, look, '1px');
    const count =
      '[document.styleSheets.length, document.adoptedStyleSheets.length, document.querySelectorAll("*").length]';
    const before = await page.evaluate(count);
    for (const px of [2, 3]) {
      site.folder.write('css/a.css', p(px));
      await see(page, 'looks.at(-1)', `${px}px`);
    }
    await see(page, count, before);
    await sawOnly(page, ['1px', '2px', '3px']);
  });
}

test('adopted sheets that cannot be told apart, or that scripts have changed, reload the page', async () => {
  const make = `const make = async () => {
    const sheet = new CSSStyleSheet(); ${ADOPT.replace('a.css', '" + name + ".css')}; return sheet }`;
  for (const script of [
    // Two files with the same text: which one is it?
    `document.adoptedStyleSheets = [await make('a'), await make('b')]`,
    `const sheet = await make('a'); sheet.insertRule('b { top: 0 }'); document.adoptedStyleSheets = [sheet]`,
  ]) {
    await using site = await serve({
      'index.html': html(
        '',
        `<script type=module>${make.replace('async ()', 'async (name)')}; ${script}</script>`,
      ),
      'css/a.css': p(1),
      'css/b.css': p(1),
    });
    const page = await open(site, WIDTH, '1px');
    site.folder.write('css/a.css', p(2));
    await see(page, 'window.marker === undefined', true);
  }
});

test('an import that a script has inserted reloads the page', async () => {
  await using site = await serve({
    'index.html': html('<style id=s></style><script>s.sheet.insertRule("@import url(css/a.css)")</script>'),
    'css/a.css': p(1),
  });
  const page = await open(site, WIDTH, '1px');
  site.folder.write('css/a.css', p(2));
  await see(page, `window.marker === undefined && ${WIDTH}`, '2px');
});

test('an import that fails to come leaves the one before; one that was missing before hinders nothing', async () => {
  let broken = false;
  await using site = await serve(
    {
      'index.html': html('<link rel=stylesheet href=b.css>'),
      'b.css': '@import "missing.css"; @import "css/a.css"; p { color: rgb(1, 0, 0) }',
      'css/a.css': p(1),
    },
    {
      middleware: [
        (req, res, next) =>
          broken && req.url?.startsWith('/css/a.css?') ? res.writeHead(503).end('Not now') : next(),
      ],
    },
  );
  const look = `${WIDTH} + getComputedStyle(p).color`;
  const page = await open(site, look, '1pxrgb(1, 0, 0)');
  broken = true;
  site.folder.write('css/a.css', p(2));
  await until('the notice', () =>
    site.notices.some((it) => it.includes('"/css/a.css" was answered with 503')),
  );
  broken = false;
  await see(page, 'document.querySelectorAll("link").length', 1);
  site.folder.write('css/a.css', p(3));
  await see(page, 'looks.at(-1)', '3pxrgb(1, 0, 0)');
  site.folder.write('b.css', '@import "missing.css"; @import "css/a.css"; p { color: rgb(2, 0, 0) }');
  await see(page, look, '3pxrgb(2, 0, 0)');
  await see(page, 'document.querySelectorAll("link").length', 1);
  await sawOnly(page, ['1pxrgb(1, 0, 0)', '3pxrgb(1, 0, 0)', '3pxrgb(2, 0, 0)']);
});

test('an adopted sheet that every component makes for itself is swapped in all of them', async () => {
  await using site = await serve({
    'index.html': html(
      '',
      `<script type=module>
        for (let i = 0; i < 3; i++) { const sheet = new CSSStyleSheet(); ${ADOPT}; document.adoptedStyleSheets.push(sheet) }
      </script>`,
    ),
    'css/a.css': p(1),
  });
  const page = await open(site, WIDTH, '1px');
  site.folder.write('css/a.css', p(2));
  const all = '[...document.adoptedStyleSheets].map((it) => it.cssRules[0].style.width)';
  await see(page, all, ['2px', '2px', '2px']);
  await sawOnly(page, ['1px', '2px']);
});

test('an adopted sheet that is to import another reloads the page', async () => {
  await using site = await serve({
    'index.html': html(
      '',
      `<script type=module>const sheet = new CSSStyleSheet(); ${ADOPT}; document.adoptedStyleSheets = [sheet]</script>`,
    ),
    'css/a.css': p(1),
  });
  const page = await open(site, WIDTH, '1px');
  site.folder.write('css/a.css', `@import 'b.css'; ${p(2)}`);
  await see(page, `window.marker === undefined && ${WIDTH}`, '2px');
});

except(noCssModules, test)('what an adopted sheet names is looked for where it was', async () => {
  await using site = await serve({
    'index.html': html(
      '',
      `<script type=module>import sheet from './css/a.css' with { type: 'css' }; document.adoptedStyleSheets = [sheet]</script>`,
    ),
    'css/a.css': p(1),
  });
  const asked: string[] = [];
  site.server.server.on('request', (req) => asked.push(req.url ?? ''));
  const page = await open(site, WIDTH, '1px');
  site.folder.write('css/a.css', `${p(2)} p { background: url(x.png) }`);
  await until('the image to be asked for', () => asked.some((url) => url.includes('x.png')));
  assert.ok(asked.includes('/css/x.png'), String(asked));
  await sawOnly(page, ['1px', '2px']);
});

test('after 100 saves there are as many sheets as before', async () => {
  await using site = await serve({
    'index.html': html(
      '<link rel=stylesheet href=css/a.css><style>@import "css/a.css";</style>',
      `<script type=module>const sheet = new CSSStyleSheet(); ${ADOPT}; document.adoptedStyleSheets = [sheet]</script>`,
    ),
    'css/a.css': p(1),
  });
  const page = await open(site, WIDTH, '1px');
  await see(page, 'document.adoptedStyleSheets.length', 1);
  const count = '[document.adoptedStyleSheets.length, document.querySelectorAll("link,style").length]';
  const before = await page.evaluate(count);
  for (let i = 2; i <= 101; i++) {
    site.folder.write('css/a.css', p(i));
    site.server.css('/css/a.css');
    if (i % 3 === 0) await page.evaluate('1'); // some come together, some do not
  }
  const rules =
    '[...document.styleSheets, ...document.adoptedStyleSheets].map((it) => it.cssRules[0].style?.width)';
  await see(page, `${WIDTH} === '101px' && ${rules}.includes('101px') && ${rules}.at(-1) === '101px'`, true);
  await see(page, count, before);
  const widths = ((await page.evaluate('looks')) as string[]).map(Number.parseFloat);
  assert.equal(
    widths,
    [...widths].sort((a, b) => a - b),
  );
  assert.ok(widths.every((it) => it <= 101));
  assert.equal(await page.evaluate('window.kept'), KEPT);
});

const bad: [name: string, answer: 'empty' | [status: number, type: string], says: string][] = [
  ['empty', 'empty', 'is empty'],
  ['missing', [404, 'text/plain'], 'was answered with 404'],
  ['a page', [200, 'text/html'], 'came as text/html'],
];

for (const [name, answer, says] of bad) {
  test(`a stylesheet that is ${name} leaves the one before, and the terminal says why`, async () => {
    let broken = false;
    await using site = await serve(
      {
        'index.html': html('<link rel=stylesheet href=css/a.css>'),
        'css/a.css': p(1),
      },
      {
        middleware: [
          (req, res, next) => {
            if (answer === 'empty' || !broken || !req.url?.startsWith('/css/a.css?')) return next();
            req.url = '/index.html';
            res.writeHead(answer[0], { 'Content-Type': answer[1] }).end('p { width: 9px }');
          },
        ],
      },
    );
    const page = await open(site, WIDTH, '1px');
    broken = true;
    site.folder.write('css/a.css', answer === 'empty' ? '' : p(2));
    const line = `The stylesheet "/css/a.css" ${says}: pages keep the one they have`;
    await until('the notice', () => site.notices.length > 0);
    broken = false;
    site.folder.write('css/a.css', p(3));
    await see(page, WIDTH, '3px');
    await see(page, 'document.querySelectorAll("link").length', 1);
    await sawOnly(page, ['1px', '3px']);
    assert.equal(site.notices, [line]);
  });
}

test('an empty stylesheet that is imported, or was adopted, leaves the one before', async () => {
  await using site = await serve({
    'index.html': html(
      '<link rel=stylesheet href=b.css>',
      `<div id=host></div><script type=module>const sheet = new CSSStyleSheet(); ${ADOPT};
      const root = host.attachShadow({ mode: 'open' }); root.innerHTML = '<i></i>'; root.adoptedStyleSheets.push(sheet)</script>`,
    ),
    'b.css': '@import "css/a.css"; p { color: rgb(1, 0, 0) }',
    'css/a.css': p(1),
  });
  const look = `${WIDTH} + ${SHADOW} + getComputedStyle(p).color`;
  const page = await open(site, look, '1px1pxrgb(1, 0, 0)');
  site.folder.write('css/a.css', '');
  await until('the notice', () => site.notices.length > 0);
  site.folder.write('css/a.css', p(3));
  await see(page, look, '3px3pxrgb(1, 0, 0)');
  const looks = (await page.evaluate('looks')) as string[];
  assert.equal(
    looks.filter((it) => !/^[13]px[13]pxrgb\(1, 0, 0\)$/.test(it)),
    [],
  );
  assert.equal(await page.evaluate('window.kept'), KEPT);
});

/**
 * Keeps back the answers to what is fetched again for a change until that one may go, and so may `change` turn them into others.
 * `asked` has the changes that something was fetched for.
 */
function holdAnswers(site: Site, change: (res: ServerResponse) => string | undefined = () => undefined) {
  const asked: string[] = [];
  const waiting = new Map<string, (() => void)[]>();
  const gone = new Set<string | undefined>();
  site.server.server.prependListener('request', ({ url }: IncomingMessage, res: ServerResponse) => {
    const [, token] = /\.css\?.*live-sse=([\w-]+)/.exec(url ?? '') ?? [];
    if (token === undefined) return;
    if (!asked.includes(token)) asked.push(token);
    const end = res.end.bind(res);
    const answer = (body: Buffer) => {
      const other = change(res);
      if (other !== undefined) res.setHeader('Content-Length', other.length);
      end(other ?? body);
    };
    res.end = ((body: Buffer) => {
      if (gone.has(token)) answer(body);
      else waiting.set(token, [...(waiting.get(token) ?? []), () => answer(body)]);
      return res;
    }) as ServerResponse['end'];
  });
  const letGo = (token: string | undefined) => {
    gone.add(token);
    for (const answer of waiting.get(token ?? '') ?? []) answer();
  };
  return { asked, letGo };
}

test('a saved stylesheet is shown before it is fetched, in its place among the others', async () => {
  await using site = await serve({
    'index.html': html(
      '<link rel=stylesheet href=css/a.css><link rel=stylesheet href=css/b.css>',
      `<div id=host></div><script>
        host.attachShadow({ mode: 'open' }).innerHTML = '<link rel=stylesheet href=css/a.css><i></i>'</script>`,
    ),
    'css/a.css': p(1),
    'css/b.css': 'p { height: 9px }',
  });
  const look = `${WIDTH} + getComputedStyle(p).height + ${SHADOW}`;
  const page = await open(site, look, '1px9px1px');
  const { asked, letGo } = holdAnswers(site);
  const count = '[document.styleSheets.length, document.querySelectorAll("*").length]';
  const before = await page.evaluate(count);
  // The second comes while the first is on its way.
  for (const px of [2, 3]) {
    site.folder.write('css/a.css', `${p(px)} p { height: ${px}px }`);
    await see(page, 'looks.at(-1)', `${px}px9px${px}px`);
  }
  const loaded = 'document.querySelector("link").sheet.cssRules[0].style.width';
  assert.is(await page.evaluate(loaded), '1px');
  const order = '[...document.head.children].map((it) => it.localName).join()';
  assert.match(String(await page.evaluate(order)), /^script,title(,link)+,style,link$/);
  letGo(asked[0]);
  await until('the second to be fetched', () => asked.length === 2);
  await page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))');
  letGo(asked[1]);
  await see(page, count, before);
  assert.is(await page.evaluate(loaded), '3px');
  await sawOnly(page, ['1px9px1px', '2px9px2px', '3px9px3px']);
});

test('a saved stylesheet for other media is not shown', async () => {
  await using site = await serve({
    'index.html': html(
      '<link rel=stylesheet href=css/a.css><link rel=stylesheet href=print.css media=print>',
    ),
    'css/a.css': p(1),
    'print.css': p(7),
  });
  const page = await open(site, WIDTH, '1px');
  const { asked, letGo } = holdAnswers(site);
  site.folder.write('print.css', p(8));
  await until('the fetch', () => asked.length === 1);
  assert.is(await page.evaluate('document.querySelector("head style").media'), 'print');
  letGo(asked[0]);
  await see(page, 'document.querySelectorAll("link, head style").length', 2);
  assert.is(await page.evaluate('document.querySelectorAll("link")[1].sheet.cssRules[0].style.width'), '8px');
  await sawOnly(page, ['1px']);
});

const outcomes: [name: string, change: (res: ServerResponse) => string | undefined, looks: string[]][] = [
  ['is another one by then', () => 'p { width: 3px }', ['1px', '2px', '3px']],
  ['does not come', (res) => void Object.assign(res, { statusCode: 503 }), ['1px', '2px', '1px']],
];

for (const [name, change, looks] of outcomes) {
  test(`a stylesheet that is shown before it is fetched, and ${name}, is in the end what a fetch gives`, async () => {
    await using site = await serve({
      'index.html': html('<link rel=stylesheet href=css/a.css>'),
      'css/a.css': p(1),
    });
    const page = await open(site, WIDTH, '1px');
    const { asked, letGo } = holdAnswers(site, change);
    site.folder.write('css/a.css', p(2));
    await see(page, 'looks.at(-1)', '2px');
    await until('the fetch', () => asked.length === 1);
    letGo(asked[0]);
    await see(page, 'document.querySelectorAll("link, head style").length', 1);
    await sawOnly(page, looks);
  });
}

interface Kept {
  readonly head?: string;
  readonly body?: string;
  readonly text?: string;
}

const kept: Record<string, Kept> = {
  'has an address in it': { text: `${p(2)} b { background: url(x.png) }` },
  'has a title': { head: '<link rel=stylesheet href=css/a.css title=main>' },
  'is switched off': { body: '<script>document.styleSheets[0].disabled = true</script>' },
  'is of a page with a policy in it': {
    head: `<meta http-equiv=Content-Security-Policy content="style-src 'self' 'unsafe-inline'">`,
  },
};

for (const [name, { head = '', body = '', text = p(2) }] of Object.entries(kept)) {
  test(`a stylesheet that ${name} is shown when it has come`, async () => {
    const link = head.includes('<link') ? '' : '<link rel=stylesheet href=css/a.css>';
    await using site = await serve({
      'index.html': html(head + link, body),
      'css/a.css': p(1),
    });
    const page = await site.open();
    const isOff = name === 'is switched off';
    if (!isOff) await see(page, WIDTH, '1px');
    await page.evaluate(`window.looks = []; window.styles = document.querySelectorAll('style').length; new MutationObserver(() =>
      looks.push(document.querySelectorAll('style').length - styles)).observe(document, { subtree: true, childList: true })`);
    const { asked, letGo } = holdAnswers(site);
    site.folder.write('css/a.css', text);
    await until('the fetch', () => asked.length > 0);
    await see(page, 'looks.some((more) => more > 0)', false);
    letGo(asked[0]);
    const rule = 'document.querySelector("link").sheet.cssRules[0].style.width';
    await see(page, rule, '2px');
    if (!isOff) await see(page, WIDTH, '2px');
    await see(page, 'document.querySelectorAll("link").length', 1);
  });
}

test('a policy that lets no stylesheet into a page hinders nothing, and is asked once', async () => {
  await using site = await serve({
    'index.html': '<!doctype html><title>t</title><link rel=stylesheet href=css/a.css><p id=p>text',
    'css/a.css': p(1),
  });
  // That of a proxy in front, which the server knows nothing of.
  site.server.server.prependListener('request', (_: IncomingMessage, res: ServerResponse) => {
    res.setHeader('Content-Security-Policy', "style-src 'self'");
  });
  const page = await site.open();
  await see(page, WIDTH, '1px');
  await page.evaluate(
    `window.violations = 0; addEventListener('securitypolicyviolation', () => violations++)`,
  );
  for (const px of [2, 3, 4]) {
    site.folder.write('css/a.css', p(px));
    await see(page, WIDTH, `${px}px`);
  }
  assert.is(await page.evaluate('violations'), 1);
});

test.after(async () => {
  await close();
});
test.run();
