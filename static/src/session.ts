/** Whether an answer is really the sign-in page, because the session ended; then goes there. */
export function isSignedOut(response: Response | undefined): boolean {
  const login = document.body.dataset.loginUrl;
  if (!login || !response?.redirected || new URL(response.url).pathname !== login) return false;
  location.assign(`${login}?next=${encodeURIComponent(location.pathname + location.search)}`);
  return true;
}
