// live(): middleware and controls. Wires the parts: a change on the disk becomes an event, the event goes down the
// stream, and every HTML document that passes by carries the script that listens. Knows no port and serves no file.

import { EventEmitter } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { relative, resolve } from 'node:path';
import { type Build, createBuild } from './build.ts';
import { names, openInEditor, placeOf } from './editor.ts';
import { type Change, classify, type Failure, type PageEvent } from './events.ts';
import { toFailure } from './failure.ts';
import type { Cors } from './guard.ts';
import { injectHtml, injectResponse, insteadOf, isDocumentRequest, type Stamp } from './inject.ts';
import { watchForLoops } from './loops.ts';
import { errorPage, sendPage } from './pages.ts';
import { policyNotice, readPolicy } from './policy.ts';
import { createProtocol } from './protocol.ts';
import { createRoutes, relativeTo } from './routes.ts';
import { refusedSheet } from './sheets.ts';
import { createSources } from './sources.ts';
import type { ReadTexts } from './texts.ts';
import { failureOf, pathsOf } from './triggers.ts';
import { type Matcher, watch } from './watch.ts';

/** A request handler as connect, Express, Polka and node:http know it. */
export type Handler = (req: IncomingMessage, res: ServerResponse, next: (error?: unknown) => void) => unknown;

export interface LiveOptions {
  /**
   * Files and folders to watch, relative to the working folder; `false` watches nothing.
   * @default nothing for `live()`; `start()` watches its root and these
   */
  readonly watch?: string | readonly string[] | false;
  /**
   * What never notifies: globs and paths relative to the watched folder, or expressions and functions on the absolute
   * path. Temporary files of editors, dotfiles, `node_modules` and caches never do.
   */
  readonly ignore?: Matcher | readonly Matcher[];
  /**
   * Milliseconds between looks at the disk, for network shares and containers that do not tell of changes.
   * @default false: the system tells
   */
  readonly poll?: number | false;
  /** Which event a batch of changes becomes; `undefined` sends none. @default the server's own decision */
  readonly classify?: (changes: readonly Change[]) => PageEvent | undefined;
  /**
   * What pages show by a plain reload only: everything (`true`), or these: `css`, `assets` (images, fonts, media), `html`;
   * with `place`, a reload does not keep scroll, focus and fields. @default false: whatever can be is shown in place
   */
  readonly reloadOnly?: boolean | readonly InPlace[];
  /** Shows failed builds over the page. @default true */
  readonly overlay?: boolean;
  /** URL path of the event stream, and of the client script below it. @default '/__events' */
  readonly path?: string;
  /** Host names to serve besides localhost and IP addresses; a leading dot takes subdomains. @default [] */
  readonly allowedHosts?: readonly string[];
  /** Origins whose pages may read what is served; `true` is any. @default false */
  readonly cors?: Cors;
}

const IN_PLACE = ['css', 'assets', 'html', 'place'] as const;
/** What pages do in place of a plain reload. */
export type InPlace = (typeof IN_PLACE)[number];

/** What can be listened to with `on()`. */
export interface LiveEvents {
  /** A batch of changes, the event it became, the milliseconds since the first of them, and how many clients got it. */
  change: {
    readonly changes: readonly Change[];
    readonly event: PageEvent | undefined;
    readonly ms: number;
    readonly clients: number;
  };
  /** What the command given as `run` prints, and each end of it; `ms` is what it took. */
  output: string | Buffer;
  build: { readonly ok: boolean; readonly ms: number };
  connect: { readonly clients: number };
  disconnect: { readonly clients: number };
  /** A line that the developer should see. It may hold characters of requests and file names as they came. */
  notice: string;
  error: Error;
}

/** Controls of a running event stream with its watcher. */
export interface Live extends AsyncDisposable {
  /** Put it ahead of whatever sends the HTML. */
  readonly middleware: Handler;
  /** Resolves when every later change is sure to be seen. */
  readonly ready: Promise<void>;
  /** Open event streams. All tabs of a browser share one. */
  readonly clients: number;
  /** Makes the pages that use these URL paths reload. @default every page */
  reload(paths?: string | readonly string[]): void;
  /** Makes the pages that use this stylesheet fetch it again. @default every stylesheet */
  css(path?: string): void;
  /**
   * Shows an error over every page, those opened later too, until the next `reload()`, `css()` or change: an Error, the
   * failure of esbuild or Rollup, or text.
   */
  error(error: unknown): void;
  /**
   * Sends an event of your own: text as it is, anything else as JSON.
   * @throws {RangeError} if the type is one of live-sse's own, or has other characters than letters, digits, `:`, `_`, `-`
   */
  send(type: string, data?: unknown): void;
  /** Calls the listener at each such event; gives the function that undoes it. */
  on<Type extends keyof LiveEvents>(type: Type, listener: (event: LiveEvents[Type]) => void): () => void;
  /** Ends the streams and stops watching. Calling it twice is once. */
  close(): Promise<void>;
}

/** An HTML, XHTML or SVG document about to be sent. */
export interface Document {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly status: number;
  readonly body: Buffer;
  /** Its Content-Type. */
  readonly type: string;
  /** URL path of its file; `undefined` for a page of our own, which has none. */
  readonly path: string | undefined;
}

/** What start() needs besides the controls, to serve files. */
export interface Wiring {
  readonly controls: Live;
  /** The document with the client script in it, marked with the file it was made of. */
  document(doc: Document): Buffer;
  /** Resolves when no save of the file is under way; to `false` if that was waited for in vain. */
  settled(file: string): Promise<boolean>;
  /** A page uses this file. */
  prefer(file: string): void;
  /** Hands it to those who listen to `notice` or `error`. */
  tell(news: string | Error): void;
  /** Whether who sent this request may open a stream of any kind. */
  admits(req: IncomingMessage): boolean;
}

interface WiringOptions extends LiveOptions {
  /** Absolute paths. */
  readonly watched: readonly string[];
  /** The URL paths that lead to a file; mounts may give it several. */
  readonly locate: (file: string) => readonly string[];
  /** Whatever sends documents puts the tag in itself, and its validators are right. */
  readonly conditional: boolean;
  /** A command that makes what is served, when it is to be run again, and whether a newer change ends a run. */
  readonly run?: string;
  readonly isSource: (file: string) => boolean;
  readonly runKill?: boolean;
  /** Links that lead out of the folders are served: what they lead to is watched. @default false */
  readonly followSymlinks?: boolean;
  /** The texts of stylesheets as they are served, where they are served as they are on the disk. */
  readonly texts?: ReadTexts;
}

/**
 * Live reload for a server of your own: mount `middleware` ahead of whatever sends the HTML.
 * @throws {TypeError | RangeError} if an option is not what it should be
 */
export function live(options: LiveOptions = {}): Live {
  return wire({
    ...options,
    watched: watchedPaths(options.watch),
    locate: () => [],
    conditional: false,
    isSource: () => false,
  }).controls;
}

/** The absolute paths an option names. */
export function watchedPaths(watched: LiveOptions['watch'] = false): string[] {
  return watched === false ? [] : [watched].flat().map((path) => resolve(path));
}

/** Milliseconds that a page waits for a build before it is told to. */
const BUILD_PATIENCE = 5000;

/** Puts the parts together. */
export function wire(options: WiringOptions): Wiring {
  const { allowedHosts = [], cors = false, path: base = '/__events', locate, conditional } = options;
  checkOptions(options);
  const news = createNews();
  const stream = createProtocol(`${base}/client.js`);
  const madeAt = new WeakMap<IncomingMessage, string>();
  const loops = watchForLoops();
  let closing: Promise<void> | undefined;
  /** How the last run has failed. */
  let broken: Failure | undefined;
  /** Pages were told that they have to wait for a build. */
  let stoodIn = false;

  const decide = (changes: readonly Change[]) => {
    try {
      return (options.classify ?? classify)(changes);
    } catch (cause) {
      news.tell(new Error('The function given as classify has failed: the pages reload', { cause }));
      return classify(changes);
    }
  };

  const tell = (changes: readonly Change[], event: PageEvent | undefined, since: number) => {
    news.emit('change', { changes, event, ms: performance.now() - since, clients: stream.clients });
  };

  const publish = (batch: readonly Change[], since: number) => {
    const changes = batch.flatMap((change) => locateChange(change, locate(change.file)));
    const event = decide(changes);
    const texts = event && options.texts?.(event.paths, stream.readers);
    if (event) stream.publish(event, texts);
    if (broken) stream.fail(broken); // a change is no cure: only a good run is
    tell(changes, event, since);
    for (const line of event?.type === 'reload' ? loops(event.paths) : []) news.tell(line);
  };

  const build = options.run === undefined ? undefined : toBuild(options.run);
  const watcher = watch(options.watched, build?.take ?? publish, {
    ignore: [options.ignore ?? []].flat(),
    poll: options.poll ?? false,
    followSymlinks: options.followSymlinks ?? false,
    onWarning: news.tell,
  });

  function toBuild(command: string): Build {
    return createBuild(command, {
      kill: options.runKill === true,
      isSource: (file) => options.isSource(file),
      quiet: () => watcher.quiet(),
      publish,
      onSources: (changes, since) =>
        tell(
          changes.map(({ type, file }) => ({ type, file })),
          undefined,
          since,
        ),
      onLoop: (file) =>
        news.tell(
          `The command given as run changes "${relative('.', file)}", which it builds from, and so runs again and again. Let it write elsewhere, or ignore that file`,
        ),
      onOutput: (text) => news.emit('output', text),
      onGood: () => {
        broken = undefined;
      },
      onEnd: (ms, failure) => {
        broken = failure;
        stream.fail(failure);
        // They hold nothing that could change.
        if (!failure && stoodIn) stream.publish({ type: 'reload', paths: [] });
        if (!failure) stoodIn = false;
        news.emit('build', { ok: failure === undefined, ms });
      },
    });
  }
  if (build) watcher.ready.then(build.start, () => {}); // who waits for `ready` hears of it

  for (const event of ['connect', 'disconnect'] as const) {
    stream.on(event, () => news.emit(event, { clients: stream.clients }));
  }

  function trigger(type: string, data: unknown): number {
    if (type === 'reload' || type === 'css') stream.publish({ type, paths: checkPaths(pathsOf(data)) });
    else if (type === 'failure') stream.fail(data === null ? undefined : toFailure(failureOf(data)));
    else stream.send(type, data);
    return stream.clients;
  }

  async function open(data: unknown): Promise<string | undefined> {
    const place = placeOf(data);
    if (!stream.failure || !names(stream.failure, place.file)) {
      throw new RangeError(`Cannot open "${place.file}": no build has failed there`);
    }
    if (await openInEditor(place, [process.cwd(), ...options.watched])) return undefined;
    const problem =
      'Cannot open an editor: set LAUNCH_EDITOR to the command of yours, and start the server again';
    news.tell(problem);
    return problem;
  }

  const sources = createSources();
  const routes = createRoutes({
    base,
    allowedHosts,
    cors,
    onNotice: news.tell,
    source: sources.find,
    connect: stream.connect,
    trigger,
    open,
  });

  const plain = plainKinds(options);
  const stamp = (req: IncomingMessage, made: Pick<Stamp, 'file' | 'source'> = {}): Stamp => ({
    ...made,
    src: relativeTo(req, `${base}/client.js`),
    plain,
    id: madeAt.get(req) ?? stream.lastId,
  });

  /** The changes and stylesheets of which it was said why pages do not take them. */
  const refused = new Set<string>();
  const tellRefused = (req: Pick<IncomingMessage, 'url' | 'headers'>, res: ServerResponse) => {
    const { key, line } = refusedSheet(req, res) ?? {};
    if (key === undefined || line === undefined || refused.has(key)) return;
    if (refused.size > 100) refused.clear();
    refused.add(key);
    news.tell(line);
  };

  const middleware: Handler = async (req, res, next) => {
    if (routes.handle(req, res)) return;
    const { url, headers } = req; // as it came: what falls back to a page gives it another address
    res.once('finish', () => {
      if (res.statusCode >= 400) build?.missed();
      tellRefused({ url, headers }, res);
    });
    if (build && isPage(req) && !(await build.isDone(BUILD_PATIENCE))) {
      stoodIn = true;
      injectResponse(req, res, () => stamp(req), { onNotice: news.tell, conditional });
      return sendPage(
        req,
        res,
        503,
        errorPage('Building …', 'This page reloads when the command given as run is done.'),
      );
    }
    // Before anything of the page is read: what changes from now on is sent again when its stream opens.
    madeAt.set(req, stream.lastId);
    injectResponse(req, res, () => stamp(req), {
      onNotice: news.tell,
      conditional,
      collect: sources.collect,
    });
    return next();
  };

  const close = async () => {
    await Promise.all([stream.close(), watcher.close(), build?.close()]);
  };

  const controls: Live = {
    middleware,
    ready: watcher.ready,
    get clients() {
      return stream.clients;
    },
    reload: (paths = []) => stream.publish({ type: 'reload', paths: checkPaths([paths].flat()) }),
    css: (path) => stream.publish({ type: 'css', paths: checkPaths(path === undefined ? [] : [path]) }),
    error: (error) => stream.fail(toFailure(error)),
    send: (type, data = null) => stream.send(type, data),
    on: news.on,
    close: () => {
      closing ??= close();
      return closing;
    },
    [Symbol.asyncDispose]: () => controls.close(),
  };

  return {
    controls,
    document: ({ req, res, status, body, type, path }) => {
      const { nonce, missing } = readPolicy(res.getHeader('content-security-policy'), req.headers.host);
      if (missing) news.tell(policyNotice(req.url, missing));
      const made = path === undefined ? {} : { file: path, source: sources.remember(body) };
      const own = stamp(req, made);
      const isPage = status < 400 && path !== undefined;
      return injectHtml(body, type, isPage ? own : insteadOf(own), {
        document: isDocumentRequest(req),
        nonce,
      });
    },
    settled: watcher.settled,
    prefer: watcher.prefer,
    tell: news.tell,
    admits: routes.admits,
  };
}

interface News {
  emit<Type extends keyof LiveEvents>(type: Type, event: LiveEvents[Type]): void;
  /** A line for the developer, or an error. Lines that nobody hears yet are kept for the first who listens. */
  tell(news: string | Error): void;
  on: Live['on'];
}

function createNews(): News {
  const emitter = new EventEmitter().setMaxListeners(0);
  const untold: string[] = [];
  const emit: News['emit'] = (type, event) => {
    // An EventEmitter throws an 'error' that nobody listens to.
    if (emitter.listenerCount(type) > 0) emitter.emit(type, event);
  };
  return {
    emit,
    tell(news) {
      if (news instanceof Error) emit('error', news);
      else if (emitter.listenerCount('notice') > 0) emit('notice', news);
      else if (untold.length < 100) untold.push(news);
    },
    on(type, listener) {
      emitter.on(type, listener);
      if (type === 'notice') for (const line of untold.splice(0)) emitter.emit('notice', line);
      return () => emitter.off(type, listener);
    },
  };
}

/** A navigation, also of a browser that does not say so in as many words. */
function isPage(req: IncomingMessage): boolean {
  return isDocumentRequest(req) ?? /text\/html/.test(req.headers.accept ?? '');
}

function locateChange({ type, file }: Change, paths: readonly string[]): readonly Change[] {
  return paths.length === 0 ? [{ type, file }] : paths.map((path) => ({ type, file, path }));
}

/** For the tag: what the page is not to do; `undefined` if it may do all. */
function plainKinds({ reloadOnly = false, overlay = true }: LiveOptions): string | undefined {
  const kinds = reloadOnly === true ? IN_PLACE : reloadOnly || [];
  return [...kinds, ...(overlay ? [] : ['overlay'])].join(' ') || undefined;
}

function checkOptions({
  path = '/__events',
  reloadOnly = false,
  watch: watched,
  allowedHosts = [],
  poll = false,
}: LiveOptions): void {
  if (!/^(\/[A-Za-z0-9_.~-]+)+$/.test(path)) {
    throw new RangeError(
      `The event stream cannot be at "${path}": give a path like /__events, without a slash at its end`,
    );
  }
  for (const kind of typeof reloadOnly === 'boolean' ? [] : reloadOnly) {
    if (IN_PLACE.includes(kind)) continue;
    throw new RangeError(
      `Cannot reload only for "${kind}": give some of ${IN_PLACE.join(', ')}, or true for all`,
    );
  }
  if (
    watched !== undefined &&
    watched !== false &&
    ![watched].flat().every((entry) => typeof entry === 'string')
  ) {
    throw new TypeError('The option watch takes paths, or false');
  }
  if (poll !== false && !(poll > 0))
    throw new RangeError(`Cannot poll every ${poll} ms: give a number above 0`);
  for (const name of allowedHosts) {
    if (/^\.?[a-z0-9_-]+(\.[a-z0-9_-]+)*$/i.test(name)) continue;
    throw new RangeError(
      `Cannot allow the host "${name}": give a name like mybox.local, without scheme and port`,
    );
  }
}

function checkPaths(paths: readonly string[]): readonly string[] {
  for (const path of paths) {
    if (typeof path !== 'string') throw new TypeError('A path to reload is text that starts with a slash');
    if (!path.startsWith('/'))
      throw new RangeError(`Cannot reload "${path}": give its URL path, like "/${path}"`);
  }
  return paths;
}
