"""The API's description as a page to try it on."""

from playwright.sync_api import expect

from tests.page.visits import Visit


def test_the_docs_list_the_api_and_try_it(visit: Visit) -> None:
    page = visit(path="/docs")
    operation = page.locator("#operations-default-predict")
    expect(operation).to_be_visible()
    health = page.locator(".opblock", has_text="/health/ready").first
    health.click()
    health.get_by_role("button", name="Try it out").click()
    health.get_by_role("button", name="Execute").click()
    expect(health.locator(".live-responses-table .response-col_status").nth(1)).to_have_text("200")
