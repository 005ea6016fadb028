/** The first page's example names the server that it came from. */

for (const element of document.querySelectorAll('.origin')) {
  element.textContent = new URL('.', location.href).href.replace(/\/$/, '');
}
