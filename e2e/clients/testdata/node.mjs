// Node's fetch.
const [url, name] = process.argv.slice(2);
const large = new Uint8Array(8 << 20);

async function line(step, target, {method = 'GET', password = 'rabbit', body} = {}) {
  const headers = {authorization: 'Basic ' + Buffer.from(`${name}:${password}`).toString('base64')};
  const response = await fetch(url + target, {method, headers, body});
  let text = await response.text();
  if (response.headers.get('content-type') === 'application/problem+json') text = JSON.parse(text).type;
  console.log(`${step} ${response.status} ${text}`);
  return response.headers;
}

await line('claim', '/inbox?wait=0');
await line('wait', '/inbox?wait=1');
await line('send', `/inbox?to=${name}`, {method: 'POST', body: 'hello'});
const id = (await line('receive', '/inbox?after=')).get('x-message-id');
await line('acknowledge', `/inbox?after=${id}&wait=0`);
await line('large', `/inbox?to=${name}`, {method: 'POST', body: large});
await line('wrong', '/inbox?wait=0', {password: 'wrong'});
await line('large-wrong', `/inbox?to=${name}`, {method: 'POST', password: 'wrong', body: large});
await line('delete', '/inbox', {method: 'DELETE'});
