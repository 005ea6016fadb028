/** The page of docs/examples/browser, in Chromium, calls the examples in Python and Go. */

import assert from 'node:assert/strict';
import {execFileSync, spawn, spawnSync} from 'node:child_process';
import {once} from 'node:events';
import {mkdtempSync, readFileSync, rmSync} from 'node:fs';
import {createServer} from 'node:http';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {after, before, test} from 'node:test';
import {launch, skip} from '../lib/browser.js';
import {freePort, Server} from '../lib/server.js';

const examples = fileURLToPath(new URL('../../../docs/examples/', import.meta.url));
const python = '/usr/bin/python3'; // that of Debian's package python3-aiortc
const hasPython = spawnSync(python, ['-c', 'import aiortc, aiohttp']).status === 0;
/** Milliseconds that a test waits for something. */
const TIMEOUT = 60_000;

/** @type {import('../lib/browser.js').Browser} */
let browser;
/** @type {import('node:http').Server} */
let site;
/** @type {Server} */
let server;
let siteOrigin = '';
const directory = mkdtempSync(join(tmpdir(), 'inbox-examples-'));

before(async () => {
  if (skip) return;
  site = createServer((_request, response) => {
    response.setHeader('Content-Type', 'text/html');
    response.end(readFileSync(join(examples, 'browser/index.html')));
  }).listen(0, '127.0.0.1');
  await once(site, 'listening');
  const address = site.address();
  assert.ok(address && typeof address === 'object');
  siteOrigin = `http://localhost:${address.port}`;
  server = new Server(['-cors-origins', siteOrigin, '-turn', '127.0.0.1', '-turn-bind', `127.0.0.1:${await freePort()}`]);
  await server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.remove();
  site?.close();
  rmSync(directory, {recursive: true, force: true});
});

/**
 * Runs in the page: rings bob as connect.js does, and returns what comes back over a channel.
 * @param {string} server
 */
async function ring(server) {
  const {Inbox} = await import(`${server}/inbox.js`);
  const {Peer} = await import(`${server}/peer.js`);
  const call = crypto.randomUUID();
  const inbox = new Inbox(`${server}/inbox`, {name: crypto.randomUUID(), password: 'secret'});
  const send = (/** @type {object} */ message) => inbox.send('bob', message, {wait: Infinity});
  /** @type {RTCDataChannel | undefined} */
  let channel;
  /** @type {RTCPeerConnection | undefined} */
  let connection;
  const connect = (/** @type {RTCConfiguration} */ configuration) => {
    connection = new RTCPeerConnection(configuration);
    return connection;
  };
  const peer = new Peer({call, polite: true, twoWay: true, send, connect});
  inbox.addEventListener('message', async (/** @type {CustomEvent} */ {detail: {data}}) => {
    await peer.receive(data);
    if (channel || !connection) return;
    connection.createDataChannel('data', {negotiated: true, id: 0}); // after the answer to the offer
    channel = connection.createDataChannel('lines');
  });
  void inbox.start();
  await send({call, ring: []});
  while (channel?.readyState !== 'open') await new Promise(resolve => setTimeout(resolve, 50));
  const reply = new Promise(resolve => channel?.addEventListener('message', ({data}) => resolve(data)));
  channel.send('hello');
  const text = await reply;
  await send({call, bye: 'closed'});
  inbox.release();
  peer.close();
  return text;
}

/**
 * Calls a peer from the page, and checks that a line comes back.
 * @param {import('node:child_process').ChildProcess} peer whose mailbox is bob
 * @param {(page: import('../lib/browser.js').Page) => Promise<unknown>} [check]
 */
async function callPeer(peer, check) {
  const context = await browser.newContext({ignoreHTTPSErrors: true});
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(TIMEOUT);
    await page.goto(`${siteOrigin}/?server=${server.origin}&to=bob`);
    await page.getByText('connected to bob').waitFor();
    await page.getByRole('textbox').fill('hello');
    await page.getByRole('textbox').press('Enter');
    await page.getByText('bob: hello').waitFor();
    await check?.(page);
    assert.equal(await page.evaluate(ring, server.origin), 'hello');
  } finally {
    await context.close();
    peer.kill('SIGKILL');
  }
}

test('Chromium calls the Python example, which also sends video', {skip: skip || (!hasPython && !process.env.CI && 'python3-aiortc not found')}, async () => {
  const args = ['-B', join(examples, 'python/answer.py'), server.origin, 'bob', 'builder', '--insecure'];
  const peer = spawn(python, args, {stdio: ['ignore', 'inherit', 'inherit']});
  await callPeer(peer, page => page.waitForFunction(() => /** @type {any} */ (document.getElementById('video')).videoWidth > 0));
});

test('Chromium calls the Go example', {skip}, async () => {
  const program = join(directory, 'peer');
  execFileSync('go', ['build', '-o', program, '.'], {cwd: join(examples, 'go'), stdio: 'inherit'});
  const args = ['-server', server.origin, '-insecure', '-name', 'bob', '-password', 'builder'];
  await callPeer(spawn(program, args, {stdio: ['ignore', 'inherit', 'inherit']}));
});
