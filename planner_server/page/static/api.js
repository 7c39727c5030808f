// Requests to the service: the token in a header, errors as the service words them.

const KEY = "planner-token";
let onUnauthorised = () => {};

export const token = () => sessionStorage.getItem(KEY) ?? "";
export const setToken = (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY));
/** Have `handler(message)` called whenever the service does not know the token. */
export const whenUnauthorised = (handler) => { onUnauthorised = handler; };

/** An answer that is an error: `code`, `status`, and a message that says what to do. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** Ask; returns the response, or throws an ApiError. */
export async function request(path, options = {}) {
  const headers = new Headers(options.headers);
  if (token()) headers.set("Authorization", `Bearer ${token()}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: options.cache ?? "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, "unreachable", "The planner does not answer. Is it running? The page tries again by itself.");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const failure = new ApiError(response.status, body.code ?? "error", body.message ?? `${response.status} ${response.statusText}`);
  if (response.status === 401) onUnauthorised(failure.message);
  throw failure;
}

export const getJson = async (path, options) => (await request(path, options)).json();
export const getBlob = async (path, options) => (await request(path, options)).blob();

/** Send JSON, and return the JSON answered. */
export async function send(path, body, options = {}) {
  const response = await request(path, {
    method: "POST", ...options, headers: { "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  return response.status === 204 ? null : response.json();
}
