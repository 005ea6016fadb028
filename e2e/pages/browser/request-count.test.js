/** Limits the number of requests per call. The figures in docs/security.md depend on it. */

import assert from 'node:assert/strict';
import {after, before, test} from 'node:test';
import {Device, launch, pressStart, sharedLink, skip, waitForPicture, waitForTitle} from '../lib/browser.js';
import {Server} from '../lib/server.js';

/** Maximum requests of both sides, including their pages, until the picture is shown. */
const maxRequests = 80;
/** Maximum requests more if a page shows its short code, because the call does not connect at once. */
const maxCodeRequests = 20;
/** The files of short codes and remembered rooms, which pages load with the code. */
const codeFile = /^\/(code(-\w+)?|pairing|key-exchange|remember(-box)?)\.js$/;

/** @type {Server} */
let server;
/** @type {import('../lib/browser.js').Browser} */
let browser;

before(async () => {
  if (skip) return;
  server = new Server();
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.remove();
});

test('a call needs few requests', {skip}, async t => {
  const [ann, ben] = await Promise.all([Device.create(browser, server.origin), Device.create(browser, server.origin)]);
  /** @type {Record<string, number>} */
  const counts = {pages: 0, messages: 0, polls: 0, codes: 0};
  for (const device of [ann, ben]) device.context.on('request', request => counts[kindOf(request)]++);
  const screen = await ann.open('/receive.html');
  const camera = await ben.open(await sharedLink(screen));
  await waitForTitle(camera, 'The other screen is waiting');
  await pressStart(camera);
  await waitForPicture(screen);
  t.diagnostic(`requests of one call: ${JSON.stringify(counts)}`);
  const total = counts.pages + counts.messages + counts.polls;
  assert.ok(counts.messages > 0 && counts.polls > 0, 'a call goes through the mailboxes');
  assert.ok(total <= maxRequests, `got ${total} requests per call, want at most ${maxRequests}`);
  assert.ok(counts.codes <= maxCodeRequests, `got ${counts.codes} requests of short codes, want at most ${maxCodeRequests}`);
  await ann.close();
  await ben.close();
});

/** @param {import('playwright-core').Request} request */
function kindOf(request) {
  const {pathname} = new URL(request.url());
  const [name] = atob((request.headers().authorization ?? '').replace('Basic ', '')).split(':');
  if (codeFile.test(pathname) || name.startsWith('code-')) return 'codes';
  if (pathname !== '/inbox') return 'pages';
  return request.method() === 'POST' ? 'messages' : 'polls';
}
