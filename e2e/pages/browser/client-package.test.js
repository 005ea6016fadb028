/** What the npm package inbox-client contains: its modules, types, sizes and examples. No browser is needed. */

import assert from 'node:assert/strict';
import {execFileSync, spawnSync} from 'node:child_process';
import {readFileSync, readdirSync} from 'node:fs';
import {join} from 'node:path';
import {after, before, test} from 'node:test';
import {fileURLToPath} from 'node:url';
import {gzipSync} from 'node:zlib';
import {build} from 'esbuild';
import {ClientSite} from '../lib/client-site.js';
import {Server} from '../lib/server.js';

const publicPath = fileURLToPath(new URL('../../../public/', import.meta.url));
const tsc = fileURLToPath(new URL('../node_modules/typescript/bin/tsc', import.meta.url));
/** The largest sizes in bytes, with gzip: of what a page loads first, and of one file with everything. */
const limits = {
  'inbox-client': [7_050, 17_000], 'inbox-client/inbox': [5_300, 8_200], 'inbox-client/peer': [3_200, 3_200],
  'inbox-client/data-channel': [2_900, 2_900], 'inbox-client/seal': [1_400, 1_400],
};

const site = new ClientSite();
/** @type {Server} */
let server;
/** @type {string[]} */
let examples = [];

before(async () => {
  site.install();
  server = new Server();
  await server.start();
  const text = readFileSync(join(site.package, 'README.md'), 'utf8');
  examples = [...text.matchAll(/^```js\n(.*?)^```$/gms)].map(([, code]) => code);
});

after(async () => {
  await server?.remove();
  site.remove();
});

test('the modules are those that the server has', async () => {
  const modules = readdirSync(site.package).filter(name => name.endsWith('.js') && name !== 'global.js');
  assert.ok(modules.includes('connect.js') && modules.includes('streams.js'));
  for (const name of modules) {
    const text = readFileSync(join(site.package, name), 'utf8');
    assert.ok(text === readFileSync(join(publicPath, name), 'utf8'), `${name}: not the module in public`);
    const served = execFileSync('curl', ['-sk', '--fail', `${server.origin}/client/1/${name}`], {encoding: 'utf8'});
    assert.ok(text === served, `${name}: not the module that the server has`);
  }
});

test('it depends on nothing', () => {
  const {dependencies, peerDependencies, scripts} = JSON.parse(readFileSync(join(site.package, 'package.json'), 'utf8'));
  assert.deepEqual([dependencies, peerDependencies, scripts], [undefined, undefined, undefined]);
});

/**
 * Bundles a module as an application would, and returns the files.
 * @param {string} name
 * @param {boolean} splitting
 */
async function bundle(name, splitting) {
  const {outputFiles} = await build({
    stdin: {contents: `export * from '${name}'`, resolveDir: site.directory}, bundle: true, splitting, minify: true, format: 'esm', write: false, outdir: 'out',
  });
  return new Map(outputFiles.map(({path, contents}) => [path.split('/').pop() ?? '', {size: gzipSync(contents).length, text: Buffer.from(contents).toString()}]));
}

test('its sizes', async t => {
  for (const [name, [first, all]] of Object.entries(limits)) {
    const files = await bundle(name, true);
    /** The files that one imports at once. @type {(name: string) => string[]} */
    const imports = name => [name, ...[...(files.get(name)?.text ?? '').matchAll(/\bfrom"\.\/([^"]+)"/g)].flatMap(([, other]) => imports(other))];
    const measured = [
      [...new Set(imports('stdin.js'))].reduce((total, name) => total + (files.get(name)?.size ?? 0), 0),
      (await bundle(name, false)).get('stdin.js')?.size ?? 0,
    ];
    t.diagnostic(`${name}: ${measured[0]} bytes first, ${measured[1]} as one file`);
    assert.ok(measured[0] > 1_000 && measured[0] <= first && measured[1] <= all, `${name}: got ${measured}, want at most ${first} and ${all}`);
  }
});

for (const [module, moduleResolution] of [['esnext', 'bundler'], ['nodenext', 'nodenext']]) {
  test(`the examples of the README compile in strict TypeScript, moduleResolution ${moduleResolution}`, () => {
    assert.equal(examples.length, 4);
    examples.forEach((code, i) => site.write(`example${i}.ts`, code));
    site.write('misuse.ts', `import {connect} from 'inbox-client';
      // @ts-expect-error the name of the callee is missing
      await connect('https://example.org/inbox');
      // @ts-expect-error there is no such state
      (await connect('https://example.org/inbox', 'bob')).addEventListener('state', ({detail}) => detail === 'open');\n`);
    site.write('options.ts', `import {Inbox} from 'inbox-client/inbox';
      import {Peer} from 'inbox-client/peer';
      const none = undefined;
      new Inbox('https://example.org/inbox', {name: 'a', password: 'b', client: none, fetch: none, WebSocket: none, transports: none, invite: none, sealer: none});
      new Peer({call: 'a', polite: true, send: signal => signal.n, iceServers: none, fetchIceServers: none, iceTransportPolicy: none, connect: none, twoWay: none});\n`);
    site.write('tsconfig.json', JSON.stringify({
      compilerOptions: {
        strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, noEmit: true, types: [], target: 'es2022', module, moduleResolution,
        lib: ['es2023', 'dom', 'dom.iterable'],
      },
      include: ['*.ts'],
    }));
    const {status, stdout} = spawnSync(process.execPath, [tsc, '-p', site.directory], {encoding: 'utf8'});
    assert.equal(status, 0, stdout);
  });
}

test('docs/javascript.md describes each export, member, event, option and error code', async () => {
  const docs = readFileSync(new URL('../../../docs/javascript.md', import.meta.url), 'utf8');
  const {exports} = JSON.parse(readFileSync(join(site.package, 'package.json'), 'utf8'));
  const described = new Set([...docs.replace(/^```.*?^```/gms, '').matchAll(/`(?:new )?([^`]+)`/g)].flatMap(([, code]) => code.match(/[\w-]+/g) ?? []));
  /** @type {string[]} */
  const names = [];
  for (const {default: path} of Object.values(exports)) {
    const name = path.slice('./'.length);
    if (name === 'global.js') continue;
    names.push(...Object.keys(await import(join(site.package, name))));
  }
  for (const name of ['connect', 'inbox', 'peer', 'peer-call', 'data-channel', 'seal', 'codec']) {
    const types = readFileSync(join(site.package, `${name}.d.ts`), 'utf8').replace(/\/\*\*.*?\*\//gs, '');
    for (const [, body] of types.matchAll(/^export declare class (?:Inbox|InboxError|Call|Listener|DataChannel|Peer|Sealer|SealError) .*?\{$(.*?)^\}/gms)) {
      names.push(...[...body.matchAll(/^ {4}(?:static |readonly )*(?:get )?(\w+)[?(:]/gm)].map(([, member]) => member));
    }
    for (const [, body] of types.matchAll(/^export type (?:\w+Events|CallOptions|InboxOptions) = \{$(.*?)^\};/gms)) {
      names.push(...[...body.matchAll(/^ {4}(\w+)\??:/gm)].map(([, member]) => member));
    }
  }
  for (const name of readdirSync(site.package).filter(name => name.endsWith('.js') && name !== 'global.js')) {
    const text = readFileSync(join(site.package, name), 'utf8');
    names.push(...[...text.matchAll(/new (?:Inbox|Seal)Error\('([\w-]+)'/g)].map(([, code]) => code));
  }
  assert.ok(names.includes('createChannel') && names.includes('superseded') && names.includes('iceTransportPolicy') && names.length > 80, `got ${names}`);
  assert.deepEqual(names.filter(name => name !== 'constructor' && !described.has(name)), []);
});

test('the example for Node.js receives its message', () => {
  const code = examples.at(-1)?.replaceAll('https://example.org', server.origin).replace('console.log(from, data)', '{ console.log(from, data.hello, inbox.transport); inbox.release(); }');
  site.write('node.js', code ?? '');
  const output = execFileSync(process.execPath, ['node.js'], {cwd: site.directory, encoding: 'utf8', timeout: 60_000, env: {...process.env, NODE_TLS_REJECT_UNAUTHORIZED: '0'}});
  assert.match(output, /^carol there (poll|stream|websocket)$/m);
});
