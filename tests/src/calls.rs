//! The calls that most journeys make, with everything that does not matter left out.
use chassis::testing::eventually;
use clientele::client::{Client, request};
use proto::{
    common::v1::Money, complaints::v1 as complaints, profiles::v1 as profiles, routing::v1 as routing,
    scoring::v1 as scoring,
};
use scoring::Tier;

/// The customers of ids in a shop, found or created, in order.
pub async fn ensure(client: &Client, ids: &[&str]) -> Vec<String> {
    let item = |id: &&str| {
        let identity = profiles::ExternalIdentity { system: "shop".into(), id: (*id).into() };
        profiles::EnsureCustomer { identity: Some(identity), customer: None }
    };
    let items = ids.iter().map(item).collect();
    let reply = client.profiles().ensure_customers(request(profiles::EnsureCustomersRequest { items })).await.unwrap();
    reply.into_inner().customers.into_iter().map(|customer| customer.customer_id).collect()
}

/// All customers.
pub async fn customers(client: &Client) -> Vec<profiles::Customer> {
    let mut customers = Vec::new();
    let mut page_token = String::new();
    loop {
        let list = profiles::ListCustomersRequest { page_size: 1_000, page_token, ..Default::default() };
        let page = client.profiles().list_customers(request(list)).await.unwrap().into_inner();
        customers.extend(page.customers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return customers;
        }
    }
}

/// The record, and the whole answer of the full view.
pub async fn full(client: &Client, id: &str) -> (profiles::Customer, profiles::GetCustomerResponse) {
    let get = profiles::GetCustomerRequest { customer_id: id.into(), view: profiles::CustomerView::Full.into() };
    let reply = client.profiles().get_customer(request(get)).await.unwrap().into_inner();
    (reply.customer.clone().unwrap(), reply)
}

/// A sale in the shop.
pub fn sale(id: &str, purchase: &str, time: &str, minor_units: i64) -> scoring::RecordPurchasesRequest {
    let purchase = scoring::Purchase {
        source: "shop".into(),
        purchase_id: purchase.into(),
        customer_id: id.into(),
        purchase_time: Some(chassis::clock::to_proto(time.parse().unwrap())),
        amount: Some(Money { currency_code: "USD".into(), minor_units }),
        kind: scoring::PurchaseKind::Sale.into(),
        discount: None,
    };
    scoring::RecordPurchasesRequest { purchases: vec![purchase] }
}

/// Records a sale on the last day of the sample.
pub async fn buy(client: &Client, id: &str, purchase: &str, minor_units: i64) {
    buy_on(client, "1998-06-30", id, purchase, minor_units).await;
}

/// Records a sale at noon of a day. Two on one day are one occasion.
pub async fn buy_on(client: &Client, day: &str, id: &str, purchase: &str, minor_units: i64) {
    let sale = sale(id, purchase, &format!("{day}T12:00:00Z"), minor_units);
    let reply = client.scoring().record_purchases(request(sale)).await.unwrap().into_inner();
    assert_eq!(reply.counts.unwrap().recorded, 1, "{:?}", reply.rejections);
}

/// The score now.
pub async fn score(client: &Client, id: &str) -> scoring::Score {
    let get = scoring::GetScoreRequest { customer_id: id.into(), ..Default::default() };
    client.scoring().get_score(request(get)).await.unwrap().into_inner().score.unwrap()
}

/// A call of a customer, with a question.
pub fn call_of(id: &str) -> routing::DecideRequest {
    routing::DecideRequest {
        who: Some(routing::decide_request::Who::CustomerId(id.into())),
        arrival_channel_id: "phone".into(),
        purpose: routing::ContactPurpose::Inquiry.into(),
    }
}

/// What is decided for it.
pub async fn decide(client: &Client, id: &str) -> routing::DecideResponse {
    client.routing().decide(request(call_of(id))).await.unwrap().into_inner()
}

/// A decision made in the knowledge that the customer is of this tier.
pub async fn decided(client: &Client, id: &str, tier: Tier) -> routing::DecideResponse {
    eventually("routing knows the tier", || async {
        decide(client, id).await.standing.is_some_and(|standing| standing.tier() == tier)
    })
    .await;
    decide(client, id).await
}

/// A complaint about a delivery; one for each customer, however often it is called.
pub fn complaint_of(id: &str) -> complaints::FileComplaintRequest {
    let complaint = complaints::Complaint {
        customer_id: id.into(),
        cause_id: "delivery".into(),
        severity: complaints::Severity::Moderate.into(),
        description: "The parcel came two weeks late.".into(),
        ..Default::default()
    };
    complaints::FileComplaintRequest { request_id: format!("file-{id}"), complaint: Some(complaint) }
}

/// Files it.
pub async fn file(client: &Client, id: &str) -> complaints::Complaint {
    client.complaints().file_complaint(request(complaint_of(id))).await.unwrap().into_inner().complaint.unwrap()
}
