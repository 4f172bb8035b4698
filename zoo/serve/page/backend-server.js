// The page's questions, answered by the server that sent the page. The token lives in this module's memory alone.

let token = "";

export const where = "The photos go to the server that sent this page and nowhere else. It keeps none of them.";

export function useToken(text) {
  token = text.trim();
}

async function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, credentials: "omit", cache: "no-store", redirect: "error" });
  } catch {
    throw new Error("The server does not answer. It may have been stopped.");
  }
  const content = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const error = new Error(content.detail || `The server answers with status ${answer.status}.`);
    error.status = answer.status;
    throw error;
  }
  return content;
}

function form(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value !== null && value !== undefined && value !== "") data.append(name, value, ...(value instanceof Blob ? ["photo"] : []));
  }
  return { method: "POST", body: data };
}

const person = (name) => `people/${encodeURIComponent(name)}`;

export const facts = () => ask("model");
export const verify = (a, b, options) => ask("verify", form({ a, b, crops: true, ...options }));
export const identify = (picture, options) => ask("identify", form({ picture, crops: true, ...options }));
export const people = (offset, limit) => ask(`people?offset=${offset}&limit=${limit}`);
export const enrol = (name, photo) => ask(`${person(name)}/photos`, form({ photo }));
export const remove = (name) => ask(person(name), { method: "DELETE" });
