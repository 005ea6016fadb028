/**
 * Runs the end-to-end tests of PeerJS itself against this server and PeerServer, in alternation, in
 * Chromium. They are not part of this repository: PEERJS is a folder with the source of
 * github.com/peers/peerjs, which is copied, and PACKAGES one with the packages that the tests use.
 *
 * The pages of the tests know no server but the public one, and load an assertion library from a
 * CDN. Chromium resolves the former to the server under test; the site serves the latter. No
 * server of STUN or TURN is used.
 *
 * scripts/soak peerjs_suite runs it. ROUNDS repeats the tests, CHROMEDRIVER names the driver, and
 * INBOX_BINARY the binary, as in the tests.
 */

import {execFileSync, spawn} from 'node:child_process';
import {once} from 'node:events';
import {cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {tmpdir} from 'node:os';
import {extname, join, resolve} from 'node:path';
import {executablePath} from '../lib/browser.js';
import {PeerServer} from '../lib/peerserver.js';
import {Server} from '../lib/server.js';

const {PEERJS, PACKAGES} = process.env;
if (!PEERJS || !PACKAGES || !existsSync(join(PEERJS, 'e2e', 'wdio.shared.conf.ts'))) {
  throw new Error(`PEERJS is ${JSON.stringify(PEERJS)}, which is no folder with the source of PeerJS`);
}
const [source, packages] = [resolve(PEERJS), resolve(PACKAGES)];
const rounds = Number(process.env.ROUNDS ?? 1);
const work = mkdtempSync(join(tmpdir(), 'peerjs-suite-'));
process.once('exit', () => rmSync(work, {recursive: true, force: true}));

/** How many tests there are. */
const tests = 30;
/** The port that the tests expect their pages at. */
const sitePort = 3000;
const types = /** @type {Record<string, string>} */ ({'.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css'});

/** Copies the tests, and what their pages load. */
function prepare() {
  cpSync(join(source, 'e2e'), join(work, 'e2e'), {recursive: true});
  symlinkSync(join(packages, 'node_modules'), join(work, 'node_modules'));
  mkdirSync(join(work, 'dist'));
  for (const name of ['peerjs.js', 'peerjs.min.js', 'serializer.msgpack.mjs']) {
    const text = readFileSync(join(packages, 'node_modules/peerjs/dist', name), 'utf8');
    writeFileSync(join(work, 'dist', name), text.replace(/iceServers: ?\[\s*\{\s*urls: ?"stun:.*?\}\s*\]/s, 'iceServers:[]'));
  }
  writeFileSync(join(work, 'chai.js'), 'export * from "chai";');
  execFileSync(join(packages, 'node_modules/.bin/esbuild'),
    [join(work, 'chai.js'), '--bundle', '--format=esm', '--log-level=error', `--outfile=${join(work, 'chai.mjs')}`]);
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=0.peerjs.com',
    '-keyout', join(work, 'key.pem'), '-out', join(work, 'cert.pem')], {stdio: 'ignore'});
  writeFileSync(join(work, 'e2e', 'wdio.server.conf.ts'), configuration);
}

const site = createServer((request, response) => {
  const path = new URL(request.url ?? '/', 'http://localhost').pathname;
  try {
    const text = readFileSync(join(work, path), 'utf8');
    response.setHeader('Content-Type', types[extname(path)] ?? 'text/plain');
    response.end(text.replace(/https:\/\/esm\.sh\/[^"']*chai[^"']*/, '/chai.mjs'));
  } catch {
    response.writeHead(404).end();
  }
});

/** Their configuration, with one browser at a time. */
const configuration = `
import {config as shared} from './wdio.shared.conf.js';
export const config = {
  ...shared, runner: 'local', services: [], maxInstances: 1, logLevel: 'error', outputDir: undefined,
  autoCompileOpts: {autoCompile: true, tsNodeOpts: {transpileOnly: true}},
  capabilities: [{
    browserName: 'chrome',
    'wdio:chromedriverOptions': {binary: process.env.CHROMEDRIVER},
    'goog:chromeOptions': {binary: process.env.CHROMIUM, args: [
      'headless', 'disable-gpu', 'no-sandbox', 'ignore-certificate-errors', 'host-resolver-rules=MAP 0.peerjs.com:443 127.0.0.1:' + process.env.PORT,
      'use-fake-ui-for-media-stream', 'use-fake-device-for-media-stream', 'allow-loopback-in-peer-connection', 'disable-features=WebRtcHideLocalIpsWithMdns',
    ]},
  }],
};
`;

/**
 * Runs all tests against a port, and returns which of them pass.
 * @param {number} port
 */
async function runTests(port) {
  const began = performance.now();
  const driver = process.env.CHROMEDRIVER ?? '/usr/bin/chromedriver';
  const child = spawn(join(packages, 'node_modules/.bin/wdio'), ['run', join(work, 'e2e', 'wdio.server.conf.ts')], {
    cwd: work, stdio: ['ignore', 'pipe', 'inherit'],
    env: {...process.env, PORT: `${port}`, BYPASS_WAF: 'null', CHROMIUM: executablePath, CHROMEDRIVER: driver},
  });
  let report = '';
  child.stdout.setEncoding('utf8').on('data', text => { report += text; });
  const [code] = await once(child, 'close');
  if (code !== 0) console.log(report);
  /** The outcomes of a file; a file that fails runs once more, as its suite wants. @type {Map<string, {passed: number, failed: string[]}>} */
  const files = new Map();
  for (const part of report.split('\u00bb ').slice(1)) {
    const failed = [...part.matchAll(/\u2716 (.*)/g)].map(([, name]) => name);
    files.set(part.split('\n', 1)[0], {passed: [...part.matchAll(/\u2713 /g)].length, failed});
  }
  const all = [...files.values()];
  return {
    passed: all.reduce((sum, {passed}) => sum + passed, 0), failed: all.flatMap(({failed}) => failed), seconds: Math.round((performance.now() - began) / 1000),
    repeated: [...report.matchAll(/RETRYING/g)].length,
  };
}

const inbox = new Server(['-compat', 'peerjs', '-turn', 'off']);
const peerServer = new PeerServer(['--sslkey', join(work, 'key.pem'), '--sslcert', join(work, 'cert.pem'), '--key', 'null']);
const servers = {
  inbox: {start: async () => (await inbox.start(), Number(new URL(inbox.origin).port)), stop: () => inbox.stop()},
  PeerServer: {start: async () => (await peerServer.start(), peerServer.port), stop: () => peerServer.stop()},
};

prepare();
site.listen(sitePort, 'localhost');
await once(site, 'listening');
for (let round = 0; round < rounds; round++) {
  for (const [name, server] of Object.entries(servers)) {
    const {passed, failed, seconds, repeated} = await runTests(await server.start());
    await server.stop();
    console.log(`${name}: ${passed} of ${passed + failed.length} tests pass, ${repeated} files repeated, ${seconds} s${failed.map(test => `\n  failed: ${test}`).join('')}`);
    if (name === 'inbox' && (failed.length > 0 || passed < tests)) process.exitCode = 1;
  }
}
await inbox.remove();
site.close();
site.closeAllConnections();
