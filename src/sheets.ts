// The answer to a page that fetches a stylesheet again → why the page will not take it. Pure.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { ALL_VERSIONS, versionOf } from './imports.ts';

/** What a page does about a stylesheet that is none. */
const KEPT = 'pages keep the one they have';

export function emptySheet(path: string): string {
  return `The stylesheet "${path}" is empty: ${KEPT}`;
}

/** One line for the terminal, with the change and the path it is of; `undefined` if all is well. */
export function refusedSheet(
  { url = '', headers }: Pick<IncomingMessage, 'url' | 'headers'>,
  res: Pick<ServerResponse, 'statusCode' | 'getHeader'>,
): { readonly key: string; readonly line: string } | undefined {
  const [path = '', query = ''] = url.split('?', 2);
  const version = versionOf(`?${query}`);
  if (version === undefined || version === ALL_VERSIONS) return undefined;
  if (headers['sec-fetch-dest'] !== 'style' && !/\.css$/i.test(path)) return undefined;
  const why = reason(res.statusCode, String(res.getHeader('content-type') ?? ''));
  if (why === undefined) return undefined;
  return { key: `${version} ${path}`, line: `The stylesheet "${path}" ${why}: ${KEPT}` };
}

function reason(status: number, type: string): string | undefined {
  if (status >= 400) return `was answered with ${status}`;
  if (status !== 200 || /^(text\/css)?\s*(;|$)/i.test(type)) return undefined;
  return `came as ${type.replace(/;.*/s, '')}`;
}
