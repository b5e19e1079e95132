#!/usr/bin/env node
// argv in, words out: the only file that prints, exits or hears signals.

import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { relative, resolve } from 'node:path';
import { styleText } from 'node:util';
import mri from 'mri';
import { isLoopback } from './backend.ts';
import type { InPlace, LiveEvents } from './live.ts';
import { closest } from './near.ts';
import { printable } from './pages.ts';
import { type Aim, aim, dataOf, type Order, pathFor, trigger } from './remote.ts';
import { leaveNote, runningServers } from './running.ts';
import { type LiveServer, type StartOptions, start } from './server.ts';
import { checkType } from './sse.ts';

interface Flag {
  readonly name: string;
  readonly short?: string;
  /** What its value is; in brackets where it may be left out (and then needs `=`). None: it is on or off. */
  readonly value?: string;
  readonly help: string;
}

const FLAGS: readonly Flag[] = [
  {
    name: 'port',
    short: 'p',
    value: '<n>',
    help: 'Port to listen on (default: the first free one from 8080)',
  },
  {
    name: 'host',
    short: 'H',
    value: '[address]',
    help: 'Be seen on the network: on every address, or on this one',
  },
  { name: 'open', short: 'o', value: '[=path]', help: 'Open the browser' },
  {
    name: 'single',
    short: 's',
    value: '[=file]',
    help: 'One-page app: unknown paths get index.html, or this file',
  },
  { name: 'watch', short: 'w', value: '<path>', help: 'Watch this file or folder too (repeatable)' },
  { name: 'ignore', short: 'i', value: '<glob>', help: 'Never reload for these files (repeatable)' },
  { name: 'run', value: '<command>', help: 'Run this at start and when what --watch names changes' },
  { name: 'run-kill', help: 'A newer change ends the run under way' },
  { name: 'poll', value: '[=ms]', help: 'Look at the disk every 100 ms: network shares, containers' },
  {
    name: 'mount',
    value: '<url=folder>',
    help: 'Serve a further folder: /assets=../dist/assets (repeatable)',
  },
  {
    name: 'proxy',
    value: '<[url=]target>',
    help: 'Let a back end answer: all, or what is below a URL (repeatable)',
  },
  { name: 'header', value: "<'K: V'>", help: 'Send this response header with everything (repeatable)' },
  {
    name: 'cors',
    value: '[=origin]',
    help: 'Let pages of this origin, or of any, read what is served (repeatable)',
  },
  { name: 'https', help: 'HTTPS and HTTP/2, with a certificate that is made once and remembered' },
  { name: 'cert', value: '<file>', help: 'HTTPS with this certificate (PEM)' },
  { name: 'key', value: '<file>', help: 'The key of --cert (PEM); neither file is ever served' },
  {
    name: 'reload-only',
    value: '[=kinds]',
    help: 'Plain reloads, for all or some of css,assets,html,place',
  },
  { name: 'isolate', help: 'Isolate the pages from other origins, for SharedArrayBuffer' },
  { name: 'allow', value: '<host>', help: 'Serve this host name too; .name takes subdomains (repeatable)' },
  {
    name: 'follow-symlinks',
    help: 'Serve symbolic links that lead out of the folder, and watch what they lead to',
  },
  { name: 'quiet', short: 'q', help: 'Print only the address and what goes wrong' },
  { name: 'version', short: 'v', help: 'Print the version' },
  { name: 'help', short: 'h', help: 'Print this help' },
];

/** Milliseconds after which the same line is news again. */
const AGAIN = 5000;

const VERSION: string = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;

function helpText(): string {
  const rows = FLAGS.map(({ name, short, value = '', help }) => {
    const gap = value.startsWith('[=') || value === '' ? '' : ' ';
    return `  ${short ? `-${short},` : '   '} ${`--${name}${gap}${value}`.padEnd(24)} ${help}`;
  });
  return `live-sse ${VERSION}: serves a folder and shows every save in the browser at once

  live-sse [folder] [flags]     the folder is the working folder if left out
  live-sse reload [paths...]    make the pages of a running server reload: those that use these files, or all
  live-sse send <type> [data]   send them an event of your own

${rows.join('\n')}

  live-sse                      serve this folder at http://localhost:8080/
  live-sse site --open          serve ./site and open the browser
  live-sse dist --single        serve a one-page app
  live-sse reload --port 8080   reload what the server at this port shows

It is seen by this machine alone unless --host is given. Ctrl-C ends it.
`;
}

type Given = Readonly<Record<string, string | boolean | readonly string[] | undefined>> & {
  readonly _: readonly unknown[];
};

/** What the words on the command line say. @throws {RangeError} if they cannot be understood */
function parse(argv: readonly string[]): { given: Given; folders: readonly string[] } {
  const end = argv.indexOf('--');
  const words = end < 0 ? argv : argv.slice(0, end);
  // mri takes a flag for a switch or for one with a value: those that may have one after `=` are read here.
  const optional: Record<string, string[]> = {};
  const rest = words.flatMap((word) => {
    const [, flag = '', value = ''] = /^(--?[a-z-]+)=(.+)$/s.exec(word) ?? [];
    const known = FLAGS.find(({ name, short }) => flag === `--${name}` || flag === `-${short}`);
    if (known?.value?.startsWith('[=')) {
      optional[known.name] = [...(optional[known.name] ?? []), value];
      return [];
    }
    if (known && known.value === undefined)
      throw new RangeError(`--${known.name} takes no value: leave out "=${value}"`);
    return /^-p\d+$/.test(word) ? ['-p', word.slice(2)] : [word];
  });
  const isString = ({ name, value }: Flag) => value !== undefined && !value.startsWith('[=') && name !== '';
  const parsed: Given = mri([...rest, ...argv.slice(words.length)], {
    alias: Object.fromEntries(FLAGS.map(({ name, short }) => [name, short ? [short] : []])),
    string: FLAGS.filter(isString).map(({ name }) => name),
    boolean: FLAGS.filter((flag) => !isString(flag)).map(({ name }) => name),
    unknown: refuseFlag,
  });
  const given = { ...parsed, ...optional };
  for (const { name, value } of FLAGS) {
    if (value?.startsWith('<') && given[name] === '')
      throw new RangeError(`--${name} needs a value: --${name} ${value}`);
  }
  return { given, folders: given._.map(String) };
}

function refuseFlag(flag: string): never {
  const name = flag.replace(/^-+(no-)?/, '');
  const [nearest] = closest(name, FLAGS);
  const advice = nearest ? `Did you mean --${nearest.name}?` : 'live-sse --help lists all';
  throw new RangeError(`Unknown flag ${flag}: ${advice}`);
}

/** The options of start() that the command line asks for. @throws {RangeError} if a value cannot be */
function toOptions(given: Given, folders: readonly string[]): StartOptions {
  if (folders.length > 1) {
    const all = folders.map((folder) => `"${folder}"`).join(' and ');
    throw new RangeError(
      `Cannot serve ${all} at once: give one folder, and the others with --mount /url=folder`,
    );
  }
  const { open = false, single = false, cors = false, poll = false } = given;
  return {
    ...(folders[0] === undefined ? {} : { root: folders[0] }),
    ...(given.proxy === undefined ? {} : { proxy: toProxy(list(given.proxy)) }),
    ...(given.port === undefined ? {} : { port: toNumber('port', last(given.port), 65535) }),
    ...(given.host === undefined || given.host === false ? {} : { host: toHost(last(given.host)) }),
    open: optional(open),
    single: optional(single),
    watch: list(given.watch),
    ignore: list(given.ignore),
    poll: poll === true ? 100 : poll === false ? false : toNumber('poll', last(poll), 60_000),
    mounts: pairs('mount', list(given.mount), '=', '/url=folder'),
    headers: pairs('header', list(given.header), ':', "'Name: value'"),
    cors:
      typeof cors === 'boolean'
        ? cors
        : list(cors)
            .flatMap((origins) => origins.split(','))
            .map(toOrigin),
    allowedHosts: list(given.allow),
    https: toHttps(given),
    reloadOnly: toKinds(given['reload-only']),
    isolate: given.isolate === true,
    ...(given.run === undefined ? {} : { run: last(given.run), runKill: given['run-kill'] === true }),
    followSymlinks: given['follow-symlinks'] === true,
  };
}

type Value = Given[string];

function toHttps({ https, key, cert }: Given): NonNullable<StartOptions['https']> {
  if (key === undefined && cert === undefined) return https === true;
  if (key === undefined) throw new RangeError('--cert needs the key of the certificate: --key <file>');
  if (cert === undefined) throw new RangeError('--key needs the certificate it is for: --cert <file>');
  return { key: last(key), cert: last(cert) };
}

/** `http://…` is for everything, `/api=http://…` for what is below a URL path. */
function toProxy(texts: readonly string[]): string | Record<string, string> {
  const [only = ''] = texts;
  if (texts.length === 1 && !only.startsWith('/')) return only;
  return pairs(
    'proxy',
    texts.map((text) => (text.startsWith('/') ? text : `/=${text}`)),
    '=',
    '/api=http://localhost:3000',
  );
}

function toKinds(value: Value): NonNullable<StartOptions['reloadOnly']> {
  if (typeof value === 'boolean' || value === undefined) return value === true;
  // start() refuses those that are none.
  return list(value).flatMap((kinds) => kinds.split(',')) as InPlace[];
}

function list(value: Value): readonly string[] {
  return [value].flat().filter((item) => typeof item === 'string');
}

function last(value: Value): string {
  return list(value).at(-1) ?? '';
}

function optional(value: Value): boolean | string {
  return list(value).at(-1) ?? value === true;
}

/** No address is every address. A folder in its place is a slip: the flag takes the word that follows it. */
function toHost(text: string): string | true {
  if (isIP(text) === 0 && (/[/\\]/.test(text) || existsSync(text))) {
    throw new RangeError(`--host cannot be "${text}", which is a folder: write live-sse ${text} --host`);
  }
  return text || true;
}

function toNumber(name: string, text: string, most: number): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && number <= most) return number;
  throw new RangeError(`--${name} cannot be "${text}": give a whole number from 0 to ${most}`);
}

function toOrigin(text: string): string {
  if (URL.canParse(text) && new URL(text).origin === text) return text;
  throw new RangeError(
    `--cors cannot admit "${text}": give an origin as browsers send it, like http://localhost:3000`,
  );
}

function pairs(
  name: string,
  texts: readonly string[],
  separator: string,
  form: string,
): Record<string, string> {
  const split = texts.map((text) => {
    const at = text.indexOf(separator);
    if (at < 1) throw new RangeError(`--${name} cannot be "${text}": write ${form}`);
    return [text.slice(0, at).trim(), text.slice(at + 1).trim()];
  });
  return Object.fromEntries(split);
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function warn(text: string): void {
  process.stderr.write(`${text}\n`);
}

type Style = Parameters<typeof styleText>[0];

function paint(style: Style, text: string): string {
  const colored = process.stdout.isTTY && !process.env.NO_COLOR;
  return colored ? styleText(style, text) : text;
}

async function greeting(server: LiveServer, host: StartOptions['host']): Promise<string> {
  const folder = relative('.', server.root) || '.';
  const lines = [`live-sse serves ${paint('bold', printable(folder))}`, '', `  ${paint('cyan', server.url)}`];
  const network = networkUrls(server, host);
  const [scanned] = network;
  if (scanned !== undefined) {
    const others = network.filter((url) => url !== server.url);
    lines.push(...others.map((url) => `  ${paint('cyan', url)}`));
    lines.push(...(await qrCode(scanned)), '', 'Whoever reaches this machine can read the folder.');
  }
  return [...lines, '', 'Save a file to see it at once. Ctrl-C ends.', ''].join('\n');
}

/** The lines of a code for a phone's camera; none where no person looks. */
async function qrCode(url: string): Promise<string[]> {
  if (!process.stdout.isTTY) return [];
  const { renderUnicodeCompact } = await import('uqr');
  const lines = renderUnicodeCompact(url, { border: 2 }).split('\n');
  // Its light modules are drawn: on a light terminal the code would be a negative.
  return ['', ...lines.map((line) => `  ${paint(['whiteBright', 'bgBlack'], line)}`)];
}

/** Where other machines find the server; none while it listens on this machine alone. */
function networkUrls({ url, host: own, port }: LiveServer, host: StartOptions['host']): string[] {
  const isEverywhere = host === true || host === '0.0.0.0' || host === '::';
  if (!isEverywhere) return isLoopback(own) ? [] : [url];
  const addresses = Object.values(networkInterfaces()).flatMap((entries) => entries ?? []);
  return addresses
    .filter(({ family, internal }) => family === 'IPv4' && !internal)
    .map(({ address }) => `${new URL(url).protocol}//${address}:${port}/`);
}

/** One line for a batch: when, what was sent for which files, to how many, and how long it took. */
function changeLine(
  { changes, event, ms, clients }: LiveEvents['change'],
  root: string,
  run: boolean,
): string {
  const files = [...new Set(changes.map(({ file }) => relative(root, file)))];
  const names =
    files.slice(0, 3).map(printable).join(', ') + (files.length > 3 ? ` and ${files.length - 3} more` : '');
  const time = new Date().toTimeString().slice(0, 8);
  const sent = (event?.type ?? (run ? 'run' : 'nothing')).padEnd(7);
  const head = `${paint('dim', time)}  ${paint('cyan', sent)}  ${names}`;
  if (!event) return head;
  const effect = `${count(clients)}, ${ms < 10 ? ms.toFixed(1) : ms.toFixed(0)} ms`;
  return `${head}  ${paint('dim', `→ ${effect}`)}`;
}

function count(clients: number): string {
  return `${clients} ${clients === 1 ? 'browser' : 'browsers'}`;
}

/** Prints a line, but not again within a few seconds: a page that asks again and again should not fill the terminal. */
function sayOnce(): (line: string) => void {
  const said = new Map<string, number>();
  return (line) => {
    const now = performance.now();
    for (const [other, time] of said) if (now - time > AGAIN) said.delete(other);
    if (!said.has(line)) warn(paint('yellow', printable(line)));
    said.set(line, now);
  };
}

function endOnSignals(server: LiveServer): void {
  let asked = false;
  const end = async () => {
    if (asked) process.exit(130);
    asked = true;
    await server.close();
    process.exit(0);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => void end());
}

/**
 * What is done instead of serving a folder, by the first word: what the others say, for the server it goes to. A folder
 * of that name is `./reload`.
 */
const COMMANDS: Readonly<Record<string, (words: readonly string[]) => (to: Aim) => Order>> = {
  reload: (words) => (to) => ({ type: 'reload', data: { paths: words.map((word) => pathFor(word, to)) } }),
  send: ([type, data, ...others]) => {
    if (type === undefined) throw new RangeError('Say what to send: live-sse send <type> [data]');
    if (others.length > 0)
      throw new RangeError(`Cannot send "${data}" and "${others[0]}": quote the data as one word`);
    const order = { type: checkType(type), data: dataOf(data) };
    return () => order;
  },
};

async function command(name: string, words: readonly string[], given: Given): Promise<void> {
  const [other] = FLAGS.filter(
    ({ name: flag }) => flag !== 'port' && flag !== 'quiet' && isGiven(given[flag]),
  );
  if (other)
    throw new RangeError(`${name} takes no --${other.name}: to serve a folder of that name, write ./${name}`);
  const port = given.port === undefined ? undefined : toNumber('port', last(given.port), 65535);
  const order = COMMANDS[name]?.(words);
  const to = aim(await runningServers(), process.cwd(), port);
  if (!order) return;
  const { type, data } = order(to);
  const clients = await trigger(to.url, { type, data });
  if (!given.quiet) say(`Sent ${type} to ${count(clients)} at ${to.url}`);
}

function isGiven(value: Value): boolean {
  return value !== undefined && value !== false && value !== '';
}

/** Notes that the server runs, for `live-sse reload`. Where the system does not allow it, a port has to be named. */
function noteRunning({ url, root }: LiveServer, mounts: StartOptions['mounts'] = {}): void {
  const resolved = Object.entries(mounts).map(([path, folder]) => [path, resolve(folder)] as const);
  try {
    process.on(
      'exit',
      leaveNote({ pid: process.pid, url, folders: { '': root, ...Object.fromEntries(resolved) } }),
    );
  } catch {} // it is seen and served all the same
}

async function main(argv: readonly string[]): Promise<void> {
  const { given, folders } = parse(argv);
  if (given.help) return say(helpText());
  if (given.version) return say(VERSION);
  const [name = '', ...words] = folders;
  if (Object.hasOwn(COMMANDS, name)) return command(name, words, given);
  const options = toOptions(given, folders);
  const notice = sayOnce();
  const server = await start(options);
  server.on('notice', notice);
  server.on('error', (error) => warn(printable(describe(error))));
  endOnSignals(server);
  noteRunning(server, options.mounts);
  server.on('output', (text) => process.stdout.write(text));
  server.on('build', ({ ok, ms }) => {
    if (!ok) warn(paint('yellow', `The command given as --run has failed after ${ms.toFixed(0)} ms`));
  });
  say(given.quiet ? server.url : await greeting(server, options.host));
  if (!given.quiet)
    server.on('change', (change) => say(changeLine(change, server.root, options.run !== undefined)));
}

function describe(error: Error): string {
  const cause = error.cause instanceof Error ? `: ${error.cause.message}` : '';
  return `${error.message}${cause}`;
}

// A reader that went away (`live-sse | head`) is no reason to end.
process.stdout.on('error', () => {});

main(process.argv.slice(2)).catch((error: unknown) => {
  const usage = error instanceof TypeError || error instanceof RangeError;
  warn(printable(error instanceof Error ? error.message : String(error)));
  process.exitCode = usage ? 2 : 1;
});
