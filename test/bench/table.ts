// Numbers in, words out: medians, the targets they meet or miss, and the tables. Pure.

export interface Summary {
  readonly median: number;
  readonly p95: number;
  readonly sum: number;
  readonly n: number;
}

/** By measure, then by server. */
export type Measures = Readonly<Record<string, Readonly<Record<string, Summary>>>>;

export interface Results {
  readonly machine: {
    readonly cpu: string;
    readonly cores: number;
    readonly memoryGB: number;
    readonly os: string;
    readonly node: string;
  };
  readonly versions: Readonly<Record<string, string>>;
  readonly measures: Measures;
}

const US = 'live-sse';

export function summarise(
  values: Readonly<Record<string, Readonly<Record<string, readonly number[]>>>>,
): Measures {
  const each = <From, To>(record: Readonly<Record<string, From>>, change: (from: From) => To) =>
    Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]));
  return each(values, (servers) => each(servers, summary));
}

function summary(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1] ?? Number.NaN;
  const middle = sorted.length / 2;
  const median = Number.isInteger(middle) ? (at(0.5) + (sorted[middle] ?? 0)) / 2 : at(0.5);
  return {
    median: round(median),
    p95: round(at(0.95)),
    sum: round(sorted.reduce((a, b) => a + b, 0)),
    n: sorted.length,
  };
}

/** Three digits are more than a machine repeats. */
function round(value: number): number {
  return Math.abs(value) >= 100 ? Math.round(value) : Number(value.toPrecision(3));
}

export interface Target {
  readonly name: string;
  readonly limit: string;
  readonly measured: string;
  /** None: it was not measured. */
  readonly met: boolean | undefined;
}

/** A number that has to be at most (or at least) so much. */
interface Bound {
  readonly name: string;
  readonly measure: string;
  readonly atMost?: number;
  readonly atLeast?: number;
  /** Divided by this server's number. */
  readonly by?: string;
  /** Divided by our own number of this measure. */
  readonly byMeasure?: string;
  /** The sum over all of its values, of all measures that start like this. */
  readonly total?: boolean;
  readonly unit?: string;
}

const SIZES = ['empty', '10,000 files', '50,000 files'];
const LARGE = '50,000 files';

const BOUNDS: readonly Bound[] = [
  { name: 'save → wire, plain', measure: 'save → wire, plain (ms)', atMost: 12, unit: 'ms' },
  { name: 'save → wire, plain', measure: 'save → wire, plain (ms)', atMost: 0.12, by: 'live-server' },
  { name: 'stale pages, all kinds of save', measure: 'stale pages', atMost: 0, total: true },
  { name: 'torn pages, all kinds of save', measure: 'torn pages', atMost: 0, total: true },
  { name: 'css save → pixels', measure: 'css save → pixels (ms)', atMost: 0.15, by: 'live-server' },
  { name: 'css save → pixels', measure: 'css save → pixels (ms)', atMost: 0.65, by: 'vite' },
  { name: 'unstyled frames of a css save', measure: 'css save, unstyled frames', atMost: 0, total: true },
  { name: 'reloads of a css save', measure: 'css save, reloads', atMost: 0, total: true },
  { name: 'html save → pixels', measure: 'html save → pixels (ms)', atMost: 0.2, by: 'eleventy-dev-server' },
  { name: 'html save → pixels', measure: 'html save → pixels (ms)', atMost: 0.5, by: 'servor' },
  {
    name: 'html merged, not reloaded',
    measure: 'merge → pixels (ms)',
    atMost: 0.25,
    byMeasure: 'reload → pixels (ms)',
  },
  ...SIZES.flatMap((size) =>
    [
      ['node:http', 1.5],
      ['live-server', 0.3],
    ].map(([by, atMost]) => ({
      name: `first 200, ${size}`,
      measure: `first 200, ${size} (ms)`,
      atMost: Number(atMost),
      by: String(by),
    })),
  ),
  { name: `first change, ${LARGE}`, measure: `first change, ${LARGE} (ms)`, atMost: 0.35, by: 'live-server' },
  { name: `memory, ${LARGE}`, measure: `memory, ${LARGE} (MB)`, atMost: 0.5, by: 'live-server' },
  { name: `CPU, ${LARGE}`, measure: `CPU, ${LARGE} (s)`, atMost: 0.5, by: 'live-server' },
  { name: `watches, ${LARGE}`, measure: `watches, ${LARGE}`, atMost: 0.03, by: 'live-server' },
  {
    name: `change of an open page, ${LARGE}`,
    measure: `change of an open page, ${LARGE} (ms)`,
    atMost: 300,
    unit: 'ms',
  },
  {
    name: `longest answer during the walk, ${LARGE}`,
    measure: `longest answer, ${LARGE} (ms)`,
    atMost: 50,
    unit: 'ms',
  },
  { name: 'injected html', measure: 'html per second', atLeast: 1, by: 'sirv' },
  {
    name: '5,000 clients, first to last',
    measure: '5,000 clients, first to last (ms)',
    atMost: 0.7,
    by: 'live-server',
  },
  {
    name: '5,000 clients, memory each',
    measure: '5,000 clients, memory each (KB)',
    atMost: 1,
    by: 'live-server',
  },
  { name: 'packages installed', measure: 'packages', atMost: 20, unit: 'packages' },
  { name: 'size installed', measure: 'installed (KB)', atMost: 1024, unit: 'KB' },
  { name: 'client of every page, gzip', measure: 'client of every page (KB gzip)', atMost: 2.5, unit: 'KB' },
  { name: 'rest of the client, gzip', measure: 'rest of the client (KB gzip)', atMost: 6, unit: 'KB' },
];

export function targets(measures: Measures): readonly Target[] {
  return BOUNDS.map((bound) => {
    const { name, atMost, atLeast, by, unit = '' } = bound;
    const per = by ? ` × ${by}` : bound.byMeasure ? ' × a reload' : unit && ` ${unit}`;
    const limit = `${atLeast === undefined ? '≤' : '≥'} ${atLeast ?? atMost}${per}`;
    const value = measuredOf(measures, bound);
    if (value === undefined) return { name, limit, measured: 'not measured', met: undefined };
    const met = value <= (atMost ?? Number.POSITIVE_INFINITY) && value >= (atLeast ?? 0);
    return { name, limit, measured: `${round(value)}${per && per !== ` ${unit}` ? ' ×' : per}`, met };
  });
}

function measuredOf(measures: Measures, { measure, by, byMeasure, total }: Bound): number | undefined {
  if (total) {
    const all = Object.entries(measures).filter(
      ([name]) => name === measure || name.startsWith(`${measure},`),
    );
    const sums = all.flatMap(([, servers]) => servers[US]?.sum ?? []);
    return sums.length > 0 ? sums.reduce((a, b) => a + b, 0) : undefined;
  }
  const own = measures[measure]?.[US]?.median;
  const other = by ? measures[measure]?.[by]?.median : byMeasure && measures[byMeasure]?.[US]?.median;
  if (own === undefined || (!by && !byMeasure)) return own;
  return other ? own / other : undefined;
}

/** Everything that was measured, as text: median, p95 and the ratio to live-sse. */
export function report({ measures, machine, versions }: Results): string {
  const blocks = Object.entries(measures).map(([measure, servers]) => {
    const own = servers[US]?.median;
    const rows = Object.entries(servers).map(([name, { median, p95, sum, n }]) => {
      const ratio = own && name !== US ? `${round(median / own)} ×` : '';
      return `  ${name.padEnd(20)}${String(median).padStart(9)}${String(p95).padStart(9)}${String(sum).padStart(10)}${String(n).padStart(5)}  ${ratio}`;
    });
    return `${measure.padEnd(60)}\n  ${''.padEnd(20)}   median      p95       sum    n  to live-sse\n${rows.join('\n')}`;
  });
  const rows = targets(measures).map(
    ({ name, limit, measured, met }) =>
      `  ${(met === undefined ? '–' : met ? 'met' : 'MISSED').padEnd(7)} ${name.padEnd(46)} ${limit.padEnd(28)} ${measured}`,
  );
  const who = Object.entries(versions).map(([name, version]) => `${name} ${version}`);
  return `${blocks.join('\n\n')}\n\n${machineLine(machine)}\n${who.join(', ')}\n\nTargets\n${rows.join('\n')}`;
}

function machineLine({ cpu, cores, memoryGB, os, node }: Results['machine']): string {
  return `${cpu}, ${cores} cores, ${memoryGB} GB, ${os}, Node.js ${node}`;
}

/** What the README shows, by the measure and what it is called there. */
const SHOWN: readonly (readonly [measure: string, name: string, total?: 'total'])[] = [
  ['first 200, empty (ms)', 'first answer after the start, ms'],
  ['first 200, 50,000 files (ms)', '… of 50,000 files'],
  ['first change, 50,000 files (ms)', '… first change noticed, ms after the start'],
  ['memory, 50,000 files (MB)', '… memory, MB'],
  ['CPU, 50,000 files (s)', '… CPU, s'],
  ['watches, 50,000 files', '… watches'],
  ['save → wire, plain (ms)', 'save → word to the pages, ms'],
  ['stale pages', 'pages left stale, of all saves', 'total'],
  ['torn pages', 'torn answers, in all saves', 'total'],
  ['git checkout of 500 files, words', 'words about a git checkout of 500 files'],
  ['css save → pixels (ms)', 'css save → pixels, ms'],
  ['html save → pixels (ms)', 'html save → pixels, ms'],
  ['image save → pixels (ms)', 'image save → pixels, ms'],
  ['html save, reloads', 'reloads for an html save'],
  ['css save, unstyled frames', 'unstyled frames of a css save'],
  ['tabs that show it, of 12', 'tabs of 12 that show a save'],
  ['html per second', 'html pages per second'],
  ['5,000 clients, first to last (ms)', '5,000 clients told, first to last, ms'],
  ['5,000 clients, memory each (KB)', '… memory of each, KB'],
  ['packages', 'packages installed'],
  ['installed (KB)', 'KB installed'],
  ['client of every page (KB gzip)', 'client of every page, KB gzipped'],
  ['rest of the client (KB gzip)', '… the rest of it, which few load whole'],
];

/** The table of the README and the line about the machine. */
export function readmeTable({ measures, machine, versions }: Results): string {
  const names = Object.keys(versions);
  const row = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const rows = SHOWN.map(([measure, name, total]) =>
    row([name, ...names.map((server) => cell(measures, { measure, server, total: total !== undefined }))]),
  );
  const who = names.map((name) => `${name} ${versions[name]}`).join(', ');
  return [
    row(['median', ...names]),
    row(['---', ...names.map(() => '--:')]),
    ...rows,
    '',
    `${machineLine(machine)}. ${who}.`,
  ].join('\n');
}

function cell(
  measures: Measures,
  { measure, server, total }: { readonly measure: string; readonly server: string; readonly total: boolean },
): string {
  if (!total) return digits(measures[measure]?.[server]?.median);
  const all = Object.entries(measures).filter(([name]) => name.startsWith(`${measure},`));
  const own = all.flatMap(([, servers]) => servers[server] ?? []);
  if (own.length === 0) return '';
  const sum = (key: 'sum' | 'n') => own.reduce((count, one) => count + one[key], 0);
  return `${sum('sum')} / ${sum('n')}`;
}

function digits(value: number | undefined): string {
  if (value === undefined) return '';
  return value >= 1000 ? Math.round(value).toLocaleString('en') : String(value);
}
